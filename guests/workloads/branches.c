/* A loop of conditional branches that depend on random data. */
#include "programs.h"

uint64_t workload_branches(long size)
{
    uint64_t random = 99, count = 0;
    for (long i = 0; i < size; i++) {
        uint64_t value = next_random(&random);
        if (value & 1)
            count += 3;
        if (value & 6)
            count ^= value;
        else if (value & 0x100)
            count -= i;
        while (value & 0x30000)
            value -= 0x10000;
    }
    return count;
}
