/* Calls through a table of functions in an order that is hard to foresee, as an interpreter does. */
#include "programs.h"

typedef uint64_t step(uint64_t);
static uint64_t add(uint64_t x) { return x + 0x9e37; }
static uint64_t mix(uint64_t x) { return x ^ x >> 7; }
static uint64_t turn(uint64_t x) { return x << 9 | x >> 55; }
static uint64_t scale(uint64_t x) { return x * 5; }
static uint64_t invert(uint64_t x) { return ~x; }
static uint64_t less(uint64_t x) { return x - 77; }
static uint64_t odd(uint64_t x) { return x | 1; }
static uint64_t swap(uint64_t x) { return __builtin_bswap64(x); }

uint64_t workload_indirect(long size)
{
    static step *const volatile steps[8] = {add, mix, turn, scale, invert, less, odd, swap};
    uint64_t value = 1;
    for (long i = 0; i < size; i++)
        value = steps[(value ^ i) & 7](value);
    return value;
}
