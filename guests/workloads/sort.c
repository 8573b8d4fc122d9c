/* Quicksort by the C library: compares through a function pointer, swaps in memory. */
#include "programs.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

uint64_t workload_sort(long size)
{
    uint32_t *numbers = allocate(size * sizeof *numbers);
    uint64_t random = 88172645463325252u, sum = 0;
    for (long i = 0; i < size; i++)
        numbers[i] = next_random(&random);
    qsort(numbers, size, sizeof *numbers, compare);
    for (long i = 0; i < size; i++)
        sum = sum * 31 + numbers[i];
    return sum;
}
