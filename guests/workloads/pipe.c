/* Two processes hand a byte to and fro through pipes: system calls and switches between address spaces. */
#include "programs.h"

#include <sys/wait.h>
#include <unistd.h>

uint64_t workload_pipe(long size)
{
    int to[2], from[2];
    if (pipe(to) || pipe(from))
        give_up("pipe");
    pid_t child = fork();
    if (child < 0)
        give_up("fork");
    uint8_t byte = 0;
    if (child == 0) {
        for (long i = 0; i < size; i++) {
            if (read(to[0], &byte, 1) != 1)
                give_up("read");
            byte += 3;
            if (write(from[1], &byte, 1) != 1)
                give_up("write");
        }
        _exit(0);
    }
    uint64_t sum = 0;
    for (long i = 0; i < size; i++) {
        if (write(to[1], &byte, 1) != 1)
            give_up("write");
        if (read(from[0], &byte, 1) != 1)
            give_up("read");
        sum += byte;
    }
    waitpid(child, 0, 0);
    return sum;
}
