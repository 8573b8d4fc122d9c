/* A 32-bit program of the ordinary kind: C library, floating point by the x87 unit, 64-bit integers in pairs of
 * registers, threads, long jumps. Prints the same everywhere. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf back;

static void *count(void *result)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i < 200000; i++)
        sum = sum * 6364136223846793005ull + i / (sum % 7 + 1);
    *(uint64_t *)result = sum;
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int times = argc > 1 ? atoi(argv[1]) : 1;
    static double values[20000];
    uint64_t sum = 0;
    volatile int jumps = 0;
    for (int time = 0; time < times; time++) {
        uint64_t sums[4];
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, count, &sums[i]);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < 4; i++)
            sum = sum * 31 + sums[i];
        for (int i = 0; i < 20000; i++)
            values[i] = sin(i * 0.37 + time) * exp(-i / 5000.0);
        qsort(values, 20000, sizeof values[0], by_value);
        if (setjmp(back) < 1000)
            longjmp(back, ++jumps % 1000 + 1);
    }
    printf("%zu bits: %016llx %.15g %.15g %d\n", 8 * sizeof(void *), (unsigned long long)sum, values[0], values[19999],
           jumps);
    return 0;
}
