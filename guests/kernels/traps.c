/* Descriptor tables and the common handler behind every gate. SDM volume 3, chapters 3, 6 and 7. */
#include "traps.h"

#include "board.h"

volatile struct trap trap;
volatile unsigned long resume_ip, fault_ip, last_ip;
int (*volatile on_interrupt)(struct frame *frame);

/* The stubs in traps32.S and traps64.S, 16 bytes apart. */
extern const char trap_stubs[];
/* Goes to user mode, and comes back from there as if it returned; in the same files. */
void enter_user(unsigned long ip, unsigned long sp);
noreturn void leave_user(void);
extern unsigned long kernel_stack_pointer;

enum { VECTORS = 256, STUB_LEN = 16, GATE_INTERRUPT = 0x8e, GATE_USER = 0xee };

static uint64_t gdt[8] = {
    0,
#ifdef __x86_64__
    0x00af9a000000ffff, 0x00cf92000000ffff, 0x00affa000000ffff,
#else
    0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00cffa000000ffff,
#endif
    0x00cff2000000ffff,
    0x00cf12000000ffff, /* not present */
};

#ifdef __x86_64__
struct __attribute__((packed)) task_state {
    uint32_t reserved;
    uint64_t sp0, sp1, sp2, reserved2, ist[7], reserved3;
    uint16_t reserved4, io_map;
};
struct gate {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t middle;
    uint32_t high, reserved;
};
#else
struct __attribute__((packed)) task_state {
    uint32_t link, sp0, ss0, rest[22];
    uint16_t trap, io_map;
};
struct gate {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t middle;
};
#endif

static struct task_state task;
static struct gate idt[VECTORS];
static char trap_stack[8192] __attribute__((aligned(16)));
static char user_stack[4096] __attribute__((aligned(16)));

struct __attribute__((packed)) table_pointer {
    uint16_t limit;
    unsigned long base;
};

static void set_gate(unsigned vector, unsigned long address, uint8_t type)
{
    struct gate *gate = &idt[vector];
    gate->low = address;
    gate->middle = address >> 16;
#ifdef __x86_64__
    gate->high = address >> 32;
#endif
    gate->selector = KERNEL_CODE;
    gate->type = type;
}

void set_gate_present(unsigned vector, int present)
{
    idt[vector].type = present ? idt[vector].type | 0x80 : idt[vector].type & ~0x80;
}

void set_up_traps(void)
{
    task.sp0 = (unsigned long)(trap_stack + sizeof trap_stack);
#ifndef __x86_64__
    task.ss0 = KERNEL_DATA;
#endif
    task.io_map = sizeof task;
    unsigned long base = (unsigned long)&task;
    gdt[TASK / 8] = (sizeof task - 1) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)0x89 << 40 |
                    (uint64_t)(base >> 24 & 0xff) << 56;
#ifdef __x86_64__
    gdt[TASK / 8 + 1] = base >> 32;
#endif
    struct table_pointer gdt_pointer = {sizeof gdt - 1, (unsigned long)gdt};
    __asm__ volatile("lgdt %0" : : "m"(gdt_pointer));
#ifdef __x86_64__
    __asm__ volatile("push %0\n\tlea 1f(%%rip), %%rax\n\tpush %%rax\n\tlretq\n1:" : : "i"(KERNEL_CODE) : "rax", "memory");
#else
    __asm__ volatile("ljmp %0, $1f\n1:" : : "i"(KERNEL_CODE));
#endif
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%ss\n\tmov %1, %%fs\n\tmov %1, %%gs"
                     :
                     : "r"(KERNEL_DATA), "r"(0));
    __asm__ volatile("ltr %w0" : : "r"(TASK));
    for (unsigned vector = 0; vector < VECTORS; vector++)
        set_gate(vector, (unsigned long)trap_stubs + vector * STUB_LEN, GATE_INTERRUPT);
    set_gate(VECTOR_USER, (unsigned long)trap_stubs + VECTOR_USER * STUB_LEN, GATE_USER);
    struct table_pointer idt_pointer = {sizeof idt - 1, (unsigned long)idt};
    __asm__ volatile("lidt %0" : : "m"(idt_pointer));
}

/* Called by the stubs. */
void on_trap(struct frame *frame)
{
    if (on_interrupt && on_interrupt(frame))
        return;
    unsigned long address;
    __asm__ volatile("mov %%cr2, %0" : "=r"(address));
    trap = (struct trap){frame->vector, frame->error, frame->ip, address, frame->flags, frame->cs};
    if ((frame->cs & 3) == 3)
        leave_user();
    if (!resume_ip) {
        print("FAILED: an exception where none was expected\n");
        print_hex("  vector", frame->vector);
        print_hex("  error ", frame->error);
        print_hex("  ip    ", frame->ip);
        print_hex("  cr2   ", address);
        end(EXIT_FAILURE);
    }
    frame->ip = resume_ip;
    frame->flags &= ~0x100ul; /* TF, or single-stepping would go on behind the test */
}

void run_in_user_mode(void (*user_code)(void))
{
    trap.vector = NO_VECTOR;
    enter_user((unsigned long)user_code, (unsigned long)(user_stack + sizeof user_stack - 16));
}

void expect_fault(const char *what, unsigned vector, unsigned error)
{
    print(what);
    print("\n");
    check_equal("vector", trap.vector, vector);
    check_equal("error code", trap.error, error);
    check_equal("instruction pointer", trap.ip, fault_ip);
}

void expect_trap(const char *what, unsigned vector)
{
    print(what);
    print("\n");
    check_equal("vector", trap.vector, vector);
    check_equal("error code", trap.error, 0);
    check_equal("instruction pointer", trap.ip, last_ip);
}

void expect_nothing(const char *what)
{
    print(what);
    print("\n");
    check_equal("vector", trap.vector, NO_VECTOR);
}
