/* Fibonacci by recursion: calls, returns and little else. */
#include "programs.h"

static __attribute__((noinline)) uint64_t fibonacci(long n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

uint64_t workload_recursion(long size)
{
    return fibonacci(size);
}
