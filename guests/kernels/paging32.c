/* Paging with 32-bit entries: 4 MiB and 4 KiB pages, protection, accessed and dirty bits, accesses that cross a page.
 * SDM volume 3, sections 4.3, 4.7 and 4.8. */
#include "board.h"
#include "traps.h"

enum {
    PRESENT = 1,
    WRITABLE = 2,
    USER = 4,
    ACCESSED = 0x20,
    DIRTY = 0x40,
    LARGE = 0x80,
    CR0_WP = 1 << 16,
    CR0_PG = (int)(1u << 31),
    CR4_PSE = 1 << 4,
};

/* Error code of #PF. */
enum { ON_PROTECTION = 1, ON_WRITE = 2, ON_USER = 4 };

static volatile uint32_t directory[1024] __attribute__((aligned(4096)));
static volatile uint32_t table[1024] __attribute__((aligned(4096)));
static volatile uint8_t frames[2][4096] __attribute__((aligned(4096)));

/* The linear addresses of the tests: the table maps 4 MiB from here. */
#define WINDOW 0x40000000u
#define PAGE(n) (WINDOW + (n) * 4096u)

static void invalidate(uint32_t address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static void map(unsigned page, uint32_t entry)
{
    table[page] = entry;
    invalidate(PAGE(page));
}

static void write_protect(int on)
{
    uint32_t cr0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"(on ? cr0 | CR0_WP : cr0 & ~CR0_WP));
}

static void turn_on(void)
{
    directory[0] = 0 | LARGE | PRESENT | WRITABLE | USER;
    directory[WINDOW >> 22] = (uint32_t)table | PRESENT | WRITABLE | USER;
    uint32_t value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(value));
    __asm__ volatile("mov %0, %%cr4" : : "r"(value | CR4_PSE));
    __asm__ volatile("mov %0, %%cr3" : : "r"(directory));
    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    __asm__ volatile("mov %0, %%cr0" : : "r"(value | CR0_PG | CR0_WP));
}

static void user_read(void)
{
    __asm__ volatile("mov %0, %%al" : : "m"(*(uint8_t *)PAGE(5)) : "al");
    __asm__ volatile("int $0x80");
}

static void user_write(void)
{
    __asm__ volatile("movb $1, %0" : : "m"(*(uint8_t *)PAGE(6)));
    __asm__ volatile("int $0x80");
}

static void user_result(const char *what, unsigned vector, unsigned error, unsigned address)
{
    print(what);
    print("\n");
    check_equal("vector", trap.vector, vector);
    check_equal("error code", trap.error, error);
    check_equal("CR2", trap.address, address);
}

static void protection(void)
{
    TRY("mov %1, %%al", : "a"(0), "m"(*(uint8_t *)(PAGE(1) + 0x123)) : "memory");
    expect_fault("#PF read, not present", 14, 0);
    check_equal("CR2", trap.address, PAGE(1) + 0x123);
    TRY("movb $1, %0", : "m"(*(uint8_t *)(PAGE(1) + 0x456)) : "memory");
    expect_fault("#PF write, not present", 14, ON_WRITE);
    check_equal("CR2", trap.address, PAGE(1) + 0x456);

    map(1, (uint32_t)frames[0] | PRESENT);
    TRY("movb $1, %0", : "m"(*(uint8_t *)PAGE(1)) : "memory");
    expect_fault("#PF write, read-only", 14, ON_WRITE | ON_PROTECTION);
    write_protect(0);
    TRY("movb $7, %0", : "m"(*(uint8_t *)PAGE(1)) : "memory");
    expect_nothing("write to read-only without WP");
    check_equal("the write took place", frames[0][0], 7);
    write_protect(1);

    map(5, (uint32_t)frames[0] | PRESENT | WRITABLE);
    run_in_user_mode(user_read);
    user_result("#PF user read of a supervisor page", 14, ON_USER | ON_PROTECTION, PAGE(5));
    map(6, (uint32_t)frames[0] | PRESENT | USER);
    run_in_user_mode(user_write);
    user_result("#PF user write to a read-only page", 14, ON_USER | ON_WRITE | ON_PROTECTION, PAGE(6));
    map(5, (uint32_t)frames[0] | PRESENT | USER);
    run_in_user_mode(user_read);
    user_result("user read", VECTOR_USER, 0, PAGE(6));
}

static void accessed_and_dirty(void)
{
    map(2, (uint32_t)frames[1] | PRESENT | WRITABLE);
    check_equal("not accessed yet", table[2] & (ACCESSED | DIRTY), 0);
    (void)*(volatile uint8_t *)PAGE(2);
    check_equal("accessed by reading", table[2] & (ACCESSED | DIRTY), ACCESSED);
    *(volatile uint8_t *)PAGE(2) = 1;
    check_equal("dirty by writing", table[2] & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    map(2, (uint32_t)frames[1] | PRESENT);
    TRY("movb $1, %0", : "m"(*(uint8_t *)PAGE(2)) : "memory");
    check_equal("a refused write leaves no dirty bit", table[2] & DIRTY, 0);
    print("accessed and dirty bits\n");
}

static void aliases(void)
{
    map(2, (uint32_t)frames[1] | PRESENT | WRITABLE);
    map(3, (uint32_t)frames[1] | PRESENT | WRITABLE);
    *(volatile uint32_t *)(PAGE(2) + 8) = 0x12345678;
    check_equal("through the other page", *(volatile uint32_t *)(PAGE(3) + 8), 0x12345678);
    map(3, (uint32_t)frames[0] | PRESENT | WRITABLE);
    *(volatile uint32_t *)(PAGE(3) + 8) = 1;
    check_equal("after a change of mapping", *(volatile uint32_t *)(PAGE(2) + 8), 0x12345678);
    print("two pages, one frame\n");
}

static void crossing(void)
{
    map(7, (uint32_t)frames[0] | PRESENT | WRITABLE);
    map(8, (uint32_t)frames[1] | PRESENT | WRITABLE);
    *(volatile uint32_t *)(PAGE(8) - 2) = 0xaabbccdd;
    check_equal("low half", frames[0][4094] | frames[0][4095] << 8, 0xccdd);
    check_equal("high half", frames[1][0] | frames[1][1] << 8, 0xaabb);
    map(8, 0);
    TRY("movl $-1, %0", : "m"(*(uint32_t *)(PAGE(8) - 2)) : "memory");
    expect_fault("#PF write across, second page not present", 14, ON_WRITE);
    check_equal("CR2", trap.address, PAGE(8));
    check_equal("nothing was written", frames[0][4094], 0xdd);
    TRY("mov %1, %%eax", : "a"(0), "m"(*(uint32_t *)(PAGE(8) - 1)) : "memory");
    expect_fault("#PF read across, second page not present", 14, 0);
    check_equal("CR2", trap.address, PAGE(8));
}

/* A string instruction that faults halfway leaves its registers where it stopped. */
static void string_fault(void)
{
    map(7, (uint32_t)frames[0] | PRESENT | WRITABLE);
    map(8, 0);
    uint32_t edi = PAGE(8) - 6, ecx = 5;
    __asm__ volatile("cld");
    trap.vector = NO_VECTOR;
    __asm__ volatile(TRY_SET("8f", "fault_ip") TRY_SET("9f", "resume_ip") "8: rep stosw\n9:"
                     : "+D"(edi), "+c"(ecx)
                     : "a"(0x5a5a)
                     : "memory");
    resume_ip = 0;
    expect_fault("#PF in rep stosw", 14, ON_WRITE);
    check_equal("EDI", edi, PAGE(8));
    check_equal("ECX", ecx, 2);
}

void test(void)
{
    set_up_traps();
    turn_on();
    protection();
    accessed_and_dirty();
    aliases();
    crossing();
    string_fault();
}
