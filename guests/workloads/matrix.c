/* Multiplies matrices of doubles, 128 by 128: SSE2 arithmetic and strided loads. */
#include "programs.h"

#include <string.h>

enum { SIDE = 128 };

uint64_t workload_matrix(long size)
{
    double (*a)[SIDE] = allocate(sizeof(double[SIDE][SIDE]));
    double (*b)[SIDE] = allocate(sizeof(double[SIDE][SIDE]));
    double (*c)[SIDE] = allocate(sizeof(double[SIDE][SIDE]));
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            a[i][j] = (i * 3 + j) % 17 / 16.0;
            b[i][j] = (i + j * 5) % 13 / 16.0;
        }
    for (long round = 0; round < size; round++) {
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                double sum = 0;
                for (int k = 0; k < SIDE; k++)
                    sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
        a[round % SIDE][(round * 7) % SIDE] = c[1][2] / 512;
    }
    uint64_t result;
    memcpy(&result, &c[SIDE - 1][SIDE / 2], sizeof result);
    return result;
}
