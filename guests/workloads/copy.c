/* Copies and fills memory through the C library, in pieces of 64 bytes to 64 KiB. */
#include "programs.h"

#include <string.h>

enum { BUFFER_LEN = 1 << 17 };

uint64_t workload_copy(long size)
{
    uint8_t *from = allocate(BUFFER_LEN), *to = allocate(BUFFER_LEN);
    for (int i = 0; i < BUFFER_LEN; i++)
        from[i] = i * 13;
    uint64_t sum = 0;
    for (long i = 0; i < size; i++) {
        size_t len = (size_t)64 << i % 11;
        memcpy(to + i % 61, from + i % 47, len);
        memset(from + i % 31, i, len / 16);
        sum = sum * 3 + to[len / 2];
    }
    return sum;
}
