/* Prints what CPUID announces, leaf by leaf, and the time stamp counter against the clock. */
#include "programs.h"

#include <cpuid.h>
#include <stdio.h>
#include <time.h>

static void print_leaves(unsigned first)
{
    unsigned a, b, c, d;
    __cpuid(first, a, b, c, d);
    unsigned last = a;
    for (unsigned leaf = first; leaf <= last && leaf < first + 64; leaf++) {
        __cpuid_count(leaf, 0, a, b, c, d);
        if (a | b | c | d)
            printf("%08x: %08x %08x %08x %08x\n", leaf, a, b, c, d);
    }
}

int program_processor(int argc, char **argv)
{
    (void)argc, (void)argv;
    print_leaves(0);
    print_leaves(0x80000000);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t ticks = __builtin_ia32_rdtsc();
    long elapsed_ns;
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        elapsed_ns = (now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec;
    } while (elapsed_ns < 200000000);
    printf("time stamp counter: %.1f MHz\n", (__builtin_ia32_rdtsc() - ticks) * 1000.0 / elapsed_ns);
    return 0;
}
