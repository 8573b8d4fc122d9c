/* 64-bit mode on a bare machine: new registers, SYSCALL and SYSRET, SWAPGS, canonical addresses, paging faults, IRETQ.
 * SDM volume 3, sections 4.5, 5.8.8 and 6.14. That an address off the stack segment which is not canonical raises #SS,
 * and that such an address in an MSR raises #GP, is not here: QEMU 7.2 does neither. */
#include "board.h"
#include "traps.h"

enum { PRESENT = 1, WRITABLE = 2, USER = 4, LARGE = 0x80 };
#define NO_EXECUTE (1ull << 63)

enum { ON_PROTECTION = 1, ON_WRITE = 2, ON_USER = 4, ON_FETCH = 16 };

enum {
    MSR_EFER = 0xc0000080,
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_FMASK,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE,
};

extern volatile uint64_t pml4[512], pdpt[512], directories[4][512];

static volatile uint64_t window_pdpt[512] __attribute__((aligned(4096)));
static volatile uint64_t window_directory[512] __attribute__((aligned(4096)));
static volatile uint64_t window_table[512] __attribute__((aligned(4096)));
static volatile uint8_t frames[2][4096] __attribute__((aligned(4096)));

/* High, to see that all 48 bits count. */
#define WINDOW 0xffff900000000000ull
#define PAGE(n) (WINDOW + (n) * 4096ull)

static uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr) : "memory");
}

static void check_equal64(const char *what, uint64_t found, uint64_t expected)
{
    check_equal(what, found >> 32, expected >> 32);
    check_equal(what, found, expected);
}

static void map(unsigned page, uint64_t entry)
{
    window_table[page] = entry;
    __asm__ volatile("invlpg (%0)" : : "r"(PAGE(page)) : "memory");
}

static void registers(void)
{
    uint64_t r8 = 0x8888888888888888, result;
    __asm__("mov %1, %%r8\n\tmov %%r8d, %%r9d\n\tmov $-1, %%r10\n\tmov %%r8b, %%r10b\n\tmov %%r10, %0"
            : "=r"(result)
            : "r"(r8)
            : "r8", "r9", "r10");
    check_equal64("a byte leaves the rest", result, 0xffffffffffffff88);
    __asm__("mov $-1, %%rax\n\tmov $1, %%eax\n\tmov %%rax, %0" : "=r"(result) : : "rax");
    check_equal64("32 bits clear the upper half", result, 1);
    __asm__("mov $-1, %%rax\n\tmov $1, %%ax\n\tmov %%rax, %0" : "=r"(result) : : "rax");
    check_equal64("16 bits leave it", result, 0xffffffffffff0001);
    __asm__("movabs $0x123456789abcdef0, %0\n\tbswap %0" : "=r"(result));
    check_equal64("bswap", result, 0xf0debc9a78563412);
    print("registers\n");
}

static void canonical(void)
{
    TRY("mov (%0), %%al", : "r"(0x0000800000000000ull) : "rax", "memory");
    expect_fault("#GP address that is not canonical", 13, 0);
}

static void paging(void)
{
    pml4[0x120] = (uint64_t)window_pdpt | PRESENT | WRITABLE | USER;
    window_pdpt[0] = (uint64_t)window_directory | PRESENT | WRITABLE | USER;
    window_directory[0] = (uint64_t)window_table | PRESENT | WRITABLE | USER;
    TRY("movb $1, %0", : "m"(*(uint8_t *)(PAGE(1) + 5)) : "memory");
    expect_fault("#PF write, not present", 14, ON_WRITE);
    check_equal64("CR2", trap.address, PAGE(1) + 5);
    map(1, (uint64_t)frames[0] | PRESENT | NO_EXECUTE);
    TRY("movb $1, %0", : "m"(*(uint8_t *)PAGE(1)) : "memory");
    expect_fault("#PF write, read-only", 14, ON_WRITE | ON_PROTECTION);
    TRY("jmp *%0", : "r"(PAGE(1)) : "memory");
    print("#PF fetch\n");
    check_equal("vector", trap.vector, 14);
    check_equal("error code", trap.error, ON_FETCH | ON_PROTECTION);
    check_equal64("CR2", trap.address, PAGE(1));
    check_equal64("instruction pointer", trap.ip, PAGE(1));

    map(1, (uint64_t)frames[0] | PRESENT | WRITABLE);
    map(2, (uint64_t)frames[1] | PRESENT | WRITABLE);
    *(volatile uint64_t *)(PAGE(2) - 3) = 0x1122334455667788;
    check_equal("last byte of the first", frames[0][4095], 0x66);
    check_equal("first byte of the second", frames[1][0], 0x55);
    volatile uint64_t *across = (volatile uint64_t *)(PAGE(2) - 3);
    check_equal64("read across", *across, 0x1122334455667788);
    /* A page of 1 GiB, if the processor has them. */
    uint32_t a = 0x80000001, b, c, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    if (d & 1 << 26) {
        window_pdpt[1] = 0 | LARGE | PRESENT | WRITABLE;
        *(volatile uint32_t *)((uintptr_t)frames[0] + WINDOW + 0x40000000) = 0xfeed;
        check_equal("a page of 1 GiB", *(volatile uint32_t *)frames[0], 0xfeed);
    }
    print("paging\n");
}

/* Kernel side of SYSCALL: notes where it came from and returns with SYSRET. */
volatile uint64_t seen_rcx, seen_r11, seen_rsp;
__asm__(".globl system_call\n"
        "system_call:\n"
        "\tmov %rcx, seen_rcx\n"
        "\tmov %r11, seen_r11\n"
        "\tmov %rsp, seen_rsp\n"
        "\tmov $0x1111, %eax\n"
        "\tsysretq\n");
extern const char system_call[];

volatile uint64_t user_result;
extern const char after_syscall[];
static void user_system_call(void)
{
    uint64_t result;
    __asm__ volatile("stc\n\tsyscall\n.globl after_syscall\nafter_syscall: adc $0, %%rax"
                     : "=a"(result)
                     :
                     : "rcx", "r11", "cc", "memory");
    user_result = result;
    __asm__ volatile("int $0x80");
}

static void allow_user(void)
{
    pml4[0] |= USER;
    pdpt[0] |= USER;
    directories[0][0] |= USER;
    uint64_t cr3;
    __asm__ volatile("mov %%cr3, %0\n\tmov %0, %%cr3" : "=r"(cr3) : : "memory");
}

static void system_calls(void)
{
    allow_user();
    /* SYSRET takes CS from STAR[63:48] + 16 and SS from + 8: with our table, user code at 0x18 means 0x08 there. */
    write_msr(MSR_STAR, (uint64_t)0x08 << 48 | (uint64_t)KERNEL_CODE << 32);
    write_msr(MSR_LSTAR, (uint64_t)system_call);
    write_msr(MSR_FMASK, 0x1); /* CF */
    write_msr(MSR_EFER, read_msr(MSR_EFER) | 1);
    run_in_user_mode(user_system_call);
    check_equal("vector", trap.vector, VECTOR_USER);
    check_equal("code segment", trap.cs, USER_CODE);
    check_equal64("RCX", seen_rcx, (uint64_t)after_syscall);
    check_equal("R11", seen_r11, 0x3);
    /* SYSRET brings the carry back, which FMASK took away. */
    check_equal64("result", user_result, 0x1112);
    print("syscall and sysret\n");
}

static void gs_base(void)
{
    static volatile uint64_t first = 0x1111, second = 0x2222;
    write_msr(MSR_GS_BASE, (uint64_t)&first);
    write_msr(MSR_KERNEL_GS_BASE, (uint64_t)&second);
    uint64_t value;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(value) : : "memory");
    check_equal64("GS base", value, 0x1111);
    __asm__ volatile("swapgs\n\tmov %%gs:0, %0" : "=r"(value) : : "memory");
    check_equal64("after swapgs", value, 0x2222);
    check_equal64("KERNEL_GS_BASE", read_msr(MSR_KERNEL_GS_BASE), (uint64_t)&first);
    print("swapgs\n");
}

/* Opcodes that 64-bit mode gave up. */
static void gone(void)
{
    TRY(".byte 0x27", : : "memory");
    expect_fault("#UD daa", 6, 0);
    TRY(".byte 0xce", : : "memory");
    expect_fault("#UD into", 6, 0);
    TRY(".byte 0x06", : : "memory");
    expect_fault("#UD push es", 6, 0);
}

void test(void)
{
    set_up_traps();
    registers();
    canonical();
    paging();
    gs_base();
    gone();
    system_calls();
}
