/* `rep movsb` and `rep stosq`, in large and small pieces: what the kernel copies and clears pages with. */
#include "programs.h"

enum { BUFFER_LEN = 65536 };

uint64_t workload_string(long size)
{
    uint8_t *from = allocate(BUFFER_LEN), *to = allocate(BUFFER_LEN);
    uint64_t sum = 0;
    for (long i = 0; i < size; i++) {
        void *source = from + i % 100, *target = to + i % 300;
        uint64_t count = i % 4 ? 4096 : 24;
        __asm__ volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
        target = from;
        count = 512;
        __asm__ volatile("rep stosq" : "+D"(target), "+c"(count) : "a"((uint64_t)i * 0x0101010101010101) : "memory");
        sum = sum * 5 + to[i % BUFFER_LEN];
    }
    return sum;
}
