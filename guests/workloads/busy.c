/* The emptiest loop there is: add, compare, jump. */
#include "programs.h"

uint64_t workload_busy(long size)
{
    uint64_t count = 0;
    for (long i = 0; i < size; i++)
        __asm__ volatile("inc %0" : "+r"(count) : : "cc");
    return count;
}
