/* The mathematics library: sine, exponential, logarithm, power. Rounded to six digits, since the library chooses another
 * code by processor and the last bits differ. */
#include "programs.h"

#include <math.h>

uint64_t workload_libm(long size)
{
    double sum = 0;
    for (long i = 0; i < size; i++) {
        double x = 0.001 * (i % 5000) + 0.5;
        sum += sin(x) + exp(-x) + log(x) + pow(x, 0.3);
    }
    return llround(sum * 1e6 / (size ? size : 1));
}
