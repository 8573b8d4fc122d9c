/* CRC-32 by table: a byte, a load, a shift, an exclusive or. */
#include "programs.h"

enum { BUFFER_LEN = 65536 };

uint64_t workload_crc(long size)
{
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    uint8_t *bytes = allocate(BUFFER_LEN);
    uint64_t random = 7;
    for (int i = 0; i < BUFFER_LEN; i++)
        bytes[i] = next_random(&random);
    uint32_t crc = ~0u;
    for (long i = 0; i < size; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i % BUFFER_LEN]) & 255];
    return crc;
}
