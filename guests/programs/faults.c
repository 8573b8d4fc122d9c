/* What a program sees when the processor stops it: the signal, its code and its address, for each kind of fault. */
#define _GNU_SOURCE
#include "programs.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int seen_signal, seen_code, seen_trap, seen_error;
static void *volatile seen_address;

static void note(int signal, siginfo_t *information, void *context)
{
    ucontext_t *user = context;
    seen_signal = signal;
    seen_code = information->si_code;
    seen_address = information->si_addr;
    seen_trap = user->uc_mcontext.gregs[REG_TRAPNO];
    seen_error = user->uc_mcontext.gregs[REG_ERR];
    siglongjmp(back, 1);
}

/* Runs `statement`, and tells the signal it raised and how far into `base` its address lies. */
#define TRY(name, base, statement)                                                                             \
    do {                                                                                                       \
        seen_signal = 0;                                                                                       \
        if (!sigsetjmp(back, 1)) {                                                                             \
            statement;                                                                                         \
        }                                                                                                      \
        long offset = (base) ? (long)((char *)seen_address - (char *)(base)) : 0;                              \
        printf("%s: signal %d code %d trap %d error %d at %ld\n", name, seen_signal, seen_code, seen_trap,     \
               seen_error, offset);                                                                            \
    } while (0)

int program_faults(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, 0);
    uint8_t *pages = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + 4096, 4096, PROT_READ) || mprotect(pages + 8192, 4096, PROT_NONE))
        give_up("mmap");
    pages[0] = 0xc3;

    volatile int zero = 0, one = 1;
    TRY("division by zero", 0, one /= zero);
    TRY("undefined instruction", 0, __asm__ volatile("ud2"));
    TRY("breakpoint", 0, __asm__ volatile("int3"));
    TRY("privileged instruction", 0, __asm__ volatile("cli"));
    TRY("port", 0, __asm__ volatile("inb $0x60, %%al" : : : "al"));
    TRY("write to a read-only page", pages, ((volatile uint8_t *)pages)[4097] = 1);
    TRY("read of a page without rights", pages, (void)((volatile uint8_t *)pages)[8200]);
    TRY("write across into a read-only page", pages, *(volatile uint64_t *)(pages + 4092) = 1);
    TRY("read across into a page without rights", pages, (void)*(volatile uint64_t *)(pages + 8190));
    TRY("execution of data", pages, ((void (*)(void))pages)());
    TRY("address that is not canonical", 0, (void)*(volatile char *)0x1234000000000000);
    TRY("int 0x81", 0, __asm__ volatile("int $0x81"));
    TRY("misaligned vector", 0, __asm__ volatile("movaps %0, %%xmm0" : : "m"(pages[1]) : "xmm0"));
    TRY("single step", 0, __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop" : : : "cc", "memory"));
    TRY("string that runs into a page without rights", pages, ({
            void *target = pages + 4096 - 16;
            uint64_t count = 100;
            __asm__ volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(1) : "memory");
        }));
    return 0;
}
