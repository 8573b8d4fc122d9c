/* Every exception that 32-bit protected mode without paging can raise: vector, error code, and where it points.
 * SDM volume 3, section 6.15. What QEMU's TCG does not check (segment limits, null segments, nonsense in CR0, CR4 and
 * MSRs, #AC, #XM) is not here. */
#include "board.h"
#include "traps.h"

static void set_cr0(uint32_t set, uint32_t clear)
{
    uint32_t cr0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"((cr0 | set) & ~clear));
}

static void user_cli(void)
{
    __asm__ volatile("cli");
}

static void user_interrupt(void)
{
    __asm__ volatile("int $0x80");
}

static void user_kernel_interrupt(void)
{
    __asm__ volatile("int $0x81");
}

static void user_port(void)
{
    __asm__ volatile("inb $0x60, %%al" : : : "al");
}

static void arithmetic(void)
{
    TRY("div %%ecx", : "a"(1), "d"(0), "c"(0) : "cc", "memory");
    expect_fault("#DE division by zero", 0, 0);
    TRY("idiv %%ecx", : "a"(0x80000000), "d"(-1), "c"(-1) : "cc", "memory");
    expect_fault("#DE quotient too large", 0, 0);
    TRY("aam $0", : "a"(1) : "cc", "memory");
    expect_fault("#DE aam 0", 0, 0);
    TRY("int3", : : "memory");
    expect_trap("#BP", 3);
    TRY("mov $0x7fffffff, %%eax; inc %%eax; into", : : "eax", "cc", "memory");
    expect_trap("#OF", 4);
    static const int limits[2] = {1, 3};
    TRY("bound %0, %1", : "r"(4), "m"(limits) : "memory");
    expect_fault("#BR", 5, 0);
    TRY("bound %0, %1", : "r"(3), "m"(limits) : "memory");
    expect_nothing("bound within");
}

static void undefined(void)
{
    TRY("ud2", : : "memory");
    expect_fault("#UD ud2", 6, 0);
    TRY(".byte 0xf0, 0x90", : : "memory");
    expect_fault("#UD lock nop", 6, 0);
    TRY(".byte 0x0f, 0xff, 0xc0", : : "memory");
    expect_fault("#UD ud0", 6, 0);
}

static void floating_point(void)
{
    set_cr0(1 << 3, 0);
    TRY("fnop", : : "memory");
    expect_fault("#NM task switched", 7, 0);
    set_cr0(1 << 5, 1 << 3 | 1 << 2);
    static const uint16_t divide_unmasked = 0x37b;
    __asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp" : : "m"(divide_unmasked));
    TRY("fwait", : : "memory");
    expect_fault("#MF division by zero", 16, 0);
    __asm__ volatile("fninit");
}

static void segments(void)
{
    TRY("mov %w0, %%fs", : "r"(ABSENT) : "memory");
    expect_fault("#NP segment not present", 11, ABSENT);
    TRY("mov %w0, %%ss", : "r"(ABSENT) : "memory");
    expect_fault("#SS stack segment not present", 12, ABSENT);
    TRY("mov %w0, %%fs", : "r"(BEYOND_GDT) : "memory");
    expect_fault("#GP selector beyond the table", 13, BEYOND_GDT);
    TRY("mov %w0, %%ss", : "r"(0) : "memory");
    expect_fault("#GP null stack segment", 13, 0);
    TRY("mov %w0, %%ss", : "r"(KERNEL_CODE) : "memory");
    expect_fault("#GP code as stack segment", 13, KERNEL_CODE);
    TRY("ljmp %0, $0", : "i"(KERNEL_DATA) : "memory");
    expect_fault("#GP jump to a data segment", 13, KERNEL_DATA);
}

static void gates(void)
{
    TRY("int $0x50", : : "memory");
    expect_trap("int 0x50", 0x50);
    set_gate_present(0x50, 0);
    TRY("int $0x50", : : "memory");
    expect_fault("#NP gate not present", 11, 0x50 * 8 + 2);
}

static void debug(void)
{
    uint32_t dr6;
    __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0));
    TRY("pushf; orl $0x100, (%%esp); popf; nop; nop", : : "cc", "memory");
    print("#DB single step\n");
    check_equal("vector", trap.vector, 1);
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    check_equal("DR6", dr6, 0xffff4ff0);
    __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0));

    static volatile uint32_t watched;
    __asm__ volatile("mov %0, %%dr0" : : "r"(&watched));
    __asm__ volatile("mov %0, %%dr7" : : "r"(0x000d0401)); /* DR0: four bytes, on writing */
    TRY("movl $1, %0", : "m"(watched) : "memory");
    expect_trap("#DB watched write", 1);
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    check_equal("DR6", dr6, 0xffff0ff1);
    check_equal("the write took place", watched, 1);
    TRY("cmpl $0, %0", : "m"(watched) : "cc", "memory");
    expect_nothing("watched read is none");
    __asm__ volatile("mov %0, %%dr7" : : "r"(0x400));
    __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0));
}

static void double_fault(void)
{
    set_gate_present(13, 0);
    TRY("mov %w0, %%fs", : "r"(BEYOND_GDT) : "memory");
    set_gate_present(13, 1);
    print("#DF general protection without a gate\n");
    check_equal("vector", trap.vector, 8);
    check_equal("error code", trap.error, 0);
}

static void user_mode(void)
{
    run_in_user_mode(user_cli);
    print("#GP cli in user mode\n");
    check_equal("vector", trap.vector, 13);
    check_equal("error code", trap.error, 0);
    check_equal("instruction pointer", *(volatile uint8_t *)trap.ip, 0xfa);
    run_in_user_mode(user_interrupt);
    print("int 0x80 from user mode\n");
    check_equal("vector", trap.vector, VECTOR_USER);
    check_equal("code segment", trap.cs, USER_CODE);
    run_in_user_mode(user_kernel_interrupt);
    print("#GP int 0x81 from user mode\n");
    check_equal("vector", trap.vector, 13);
    check_equal("error code", trap.error, VECTOR_KERNEL * 8 + 2);
    run_in_user_mode(user_port);
    print("#GP port from user mode\n");
    check_equal("vector", trap.vector, 13);
    check_equal("error code", trap.error, 0);
}

void test(void)
{
    set_up_traps();
    arithmetic();
    undefined();
    floating_point();
    segments();
    gates();
    debug();
    double_fault();
    user_mode();
}
