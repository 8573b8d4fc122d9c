/* Walks a linked list whose nodes lie in random order: each load waits for the one before. */
#include "programs.h"

enum { NODES = 1 << 15 };
struct node {
    struct node *next;
    uint64_t value;
};

uint64_t workload_list(long size)
{
    struct node *nodes = allocate(NODES * sizeof *nodes);
    uint32_t *order = allocate(NODES * sizeof *order);
    uint64_t random = 42, sum = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        uint32_t other = next_random(&random) % (i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
        nodes[order[i]].value = i;
    }
    struct node *at = nodes;
    for (long i = 0; i < size; i++, at = at->next)
        sum += at->value;
    return sum;
}
