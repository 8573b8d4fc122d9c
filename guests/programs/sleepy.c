/* Sleeps a given number of milliseconds, a given number of times, and says so each time: a machine that is mostly idle. */
#include "programs.h"

#include <stdio.h>
#include <time.h>

int program_sleepy(int argc, char **argv)
{
    long milliseconds = argument(argc, argv, 1, 1000), times = argument(argc, argv, 2, 1);
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    for (long i = 0; i < times; i++) {
        nanosleep(&pause, 0);
        printf("slept %ld ms\n", milliseconds);
        fflush(stdout);
    }
    return 0;
}
