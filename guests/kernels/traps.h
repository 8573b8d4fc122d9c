/* Descriptors, and a way to run one instruction and see which exception it raises. */
#ifndef TRAPS_H
#define TRAPS_H

#include <stdint.h>

/* Selectors of our GDT. */
enum {
    KERNEL_CODE = 0x08,
    KERNEL_DATA = 0x10,
    USER_CODE = 0x18 | 3,   /* SYSRET wants code and data in other orders in the two modes; see traps.c */
    USER_DATA = 0x20 | 3,
    ABSENT = 0x28,          /* a data segment that is not present */
    TASK = 0x30,            /* 16 bytes in 64-bit mode */
    BEYOND_GDT = 0x100,
};

/* Vectors that tests may use freely: kernel-only, and open to user mode. */
enum { VECTOR_KERNEL = 0x81, VECTOR_USER = 0x80, NO_VECTOR = 0xffff };

/* What the processor left when it delivered an exception or interrupt, and the registers before. */
struct frame {
#ifdef __x86_64__
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
#else
    uint32_t di, si, bp, sp_before, bx, dx, cx, ax;
#endif
    unsigned long vector, error, ip, cs, flags, sp, ss;
};

/* The last exception seen by TRY. `address` is CR2, `ip` where the processor says it happened. */
struct trap {
    unsigned long vector, error, ip, address, flags, cs;
};
extern volatile struct trap trap;

/* Where an exception inside TRY continues; 0 outside of TRY, where an exception ends the test. */
extern volatile unsigned long resume_ip, fault_ip;

/* If set, called for each vector; answers whether it took the interrupt, so that the interrupted code goes on. */
extern int (*volatile on_interrupt)(struct frame *frame);

/* Loads our GDT, TSS and IDT; every vector then has a gate. */
void set_up_traps(void);

/* Changes a gate: not present, for instance. */
void set_gate_present(unsigned vector, int present);

/* Runs `user_code` in ring 3 (flat segments) on its own stack until any exception or interrupt brings it back here. */
void run_in_user_mode(void (*user_code)(void));

#ifdef __x86_64__
#define MOVE_ADDRESS "movabsq $"
#define TRY_SET(label, variable) "movq $" label ", " variable "\n\t"
#else
#define TRY_SET(label, variable) "movl $" label ", " variable "\n\t"
#endif

/* Runs the instructions in `text`; fault_ip is the address of the first, resume_ip of what follows the last. */
#define TRY(text, ...)                                                                                             \
    do {                                                                                                           \
        trap.vector = NO_VECTOR;                                                                                   \
        __asm__ volatile(TRY_SET("8f", "fault_ip") TRY_SET("9f", "resume_ip") "8:\n\t" text "\n9:" : __VA_ARGS__); \
        last_ip = resume_ip;                                                                                       \
        resume_ip = 0;                                                                                             \
    } while (0)
extern volatile unsigned long last_ip;

/* Checks that the last TRY raised `vector` with `error` at its first instruction (a fault). */
void expect_fault(const char *what, unsigned vector, unsigned error);
/* The same for a trap, which points behind the instruction. */
void expect_trap(const char *what, unsigned vector);
/* Checks that nothing was raised. */
void expect_nothing(const char *what);

#endif
