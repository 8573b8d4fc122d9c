/* A process increments a variable in a loop, and prints it whenever a timer signal comes.
 *
 * ReVirt's second experiment (OSDI 2002, section 4.1). The value printed tells, to the turn of the loop, at which instruction
 * the interrupt came. */
#include "programs.h"

#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

static volatile uint64_t counter;
static volatile long ticks_left;

static void print_counter(int signal)
{
    (void)signal;
    if (ticks_left <= 0)
        return;
    /* No stdio in a signal handler: the digits are made by hand. */
    char line[24];
    char *at = line + sizeof line;
    *--at = '\n';
    uint64_t value = counter;
    do
        *--at = '0' + value % 10;
    while (value /= 10);
    ssize_t len = line + sizeof line - at;
    if (write(1, at, len) != len)
        _exit(2);
    ticks_left--;
}

int program_signal(int argc, char **argv)
{
    ticks_left = argument(argc, argv, 1, 50);
    struct sigaction action = {.sa_handler = print_counter, .sa_flags = SA_RESTART};
    if (sigaction(SIGALRM, &action, 0))
        give_up("sigaction");
    struct itimerval every_20_ms = {{0, 20000}, {0, 20000}};
    if (setitimer(ITIMER_REAL, &every_20_ms, 0))
        give_up("setitimer");
    while (ticks_left > 0)
        counter++;
    puts("end");
    return 0;
}
