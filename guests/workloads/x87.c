/* Arithmetic in 80 bits: what `long double` is on this processor, exact to the last bit everywhere. */
#include "programs.h"

#include <string.h>

uint64_t workload_x87(long size)
{
    volatile long double seed = 1.25L;
    long double x = seed, y = 0.75L;
    for (long i = 0; i < size; i++) {
        x = x * 1.000030517578125L + y;
        y = y / 1.0000152587890625L - 0.001L;
        if (x > 1000)
            x = __builtin_sqrtl(x) + y;
    }
    uint64_t result = 0;
    memcpy(&result, &x, sizeof result);
    return result;
}
