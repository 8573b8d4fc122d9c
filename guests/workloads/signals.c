/* Sends itself signals: a frame built by the kernel on the user's stack, with all of the processor's state, and undone. */
#include "programs.h"

#include <signal.h>

static volatile uint64_t received;

static void receive(int signal)
{
    received += signal == SIGUSR1;
}

uint64_t workload_signals(long size)
{
    struct sigaction action = {.sa_handler = receive};
    if (sigaction(SIGUSR1, &action, 0))
        give_up("sigaction");
    for (long i = 0; i < size; i++)
        raise(SIGUSR1);
    return received;
}
