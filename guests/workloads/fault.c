/* Touches fresh pages: a page fault each, and a page cleared by the kernel. */
#include "programs.h"

#include <sys/mman.h>

enum { PAGES = 256, PAGE_LEN = 4096 };

uint64_t workload_fault(long size)
{
    uint64_t sum = 0;
    for (long done = 0; done < size; done += PAGES) {
        uint8_t *pages = mmap(0, PAGES * PAGE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED)
            give_up("mmap");
        for (int i = 0; i < PAGES; i++) {
            sum += pages[i * PAGE_LEN] + 1;
            pages[i * PAGE_LEN] = i;
        }
        munmap(pages, PAGES * PAGE_LEN);
    }
    return sum;
}
