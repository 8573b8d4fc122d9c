/* A hash table with open addressing: loads all over 4 MiB that no cache foresees. */
#include "programs.h"

enum { SLOTS = 1 << 19 };

uint64_t workload_hash(long size)
{
    uint64_t *keys = allocate(SLOTS * sizeof *keys);
    uint64_t random = 1234567, found = 0;
    for (long i = 0; i < size; i++) {
        uint64_t key = next_random(&random) % (SLOTS / 2) + 1;
        uint64_t slot = key * 0x9e3779b97f4a7c15u >> 45;
        while (keys[slot] && keys[slot] != key)
            slot = (slot + 1) % SLOTS;
        found += keys[slot] == key;
        keys[slot] = key;
    }
    return found;
}
