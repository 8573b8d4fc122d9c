/* Two processes increment one variable in shared memory without a lock, and print it.
 *
 * ReVirt's first experiment (OSDI 2002, section 4.1). What is printed depends on the instruction at which the kernel takes
 * the processor from one process and gives it to the other: increments are lost when that falls between load and store,
 * and the lines of the two interleave differently. */
#include "programs.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INCREMENTS_A_ROUND = 300000 };

static void increment_and_print(volatile uint64_t *shared, char who, long rounds)
{
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < INCREMENTS_A_ROUND; i++) {
            uint64_t seen = *shared;
            *shared = seen + 1;
        }
        /* One write a line, so that the lines of the two processes do not mix within a line. */
        char line[64];
        int len = snprintf(line, sizeof line, "%c %llu\n", who, (unsigned long long)*shared);
        if (write(1, line, len) != len)
            give_up("write");
    }
}

int program_race(int argc, char **argv)
{
    long rounds = argument(argc, argv, 1, 50);
    volatile uint64_t *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        give_up("mmap");
    pid_t child = fork();
    if (child < 0)
        give_up("fork");
    if (child == 0) {
        increment_and_print(shared, 'b', rounds);
        _exit(0);
    }
    increment_and_print(shared, 'a', rounds);
    if (waitpid(child, 0, 0) < 0)
        give_up("waitpid");
    printf("end %llu\n", (unsigned long long)*shared);
    return 0;
}
