/* Interrupts: the PIT through the PICs, the local APIC's timer, HLT, and when an interrupt may not be taken.
 * SDM volume 3, sections 6.8.1, 6.8.3 and 10.5; 8254 and 8259A data sheets. */
#include "board.h"
#include "traps.h"

enum {
    PIC1 = 0x20,
    PIC2 = 0xa0,
    PIT_CHANNEL0 = 0x40,
    PIT_COMMAND = 0x43,
    END_OF_INTERRUPT = 0x20,
    VECTOR_PIC = 0x20,
    VECTOR_APIC = 0x60,
    VECTOR_SPURIOUS = 0xff,
    TICKS_A_SECOND = 1000,
};

#define APIC(offset) (*(volatile uint32_t *)(0xfee00000u + (offset)))
enum {
    APIC_TPR = 0x80,
    APIC_EOI = 0xb0,
    APIC_SPURIOUS = 0xf0,
    APIC_IRR = 0x200,
    APIC_TIMER = 0x320,
    APIC_LINT0 = 0x350,
    APIC_INITIAL = 0x380,
    APIC_CURRENT = 0x390,
    APIC_DIVIDE = 0x3e0,
    APIC_ENABLE = 1 << 8,
    APIC_MASKED = 1 << 16,
    APIC_PERIODIC = 1 << 17,
    APIC_DIVIDE_BY_1 = 0xb,
    LINT_EXTINT = 7 << 8,
};

/* Far more turns than any wait here needs; a machine whose timer is dead fails instead of hanging. */
enum { TURNS_MAX = 200000000 };

static volatile unsigned pit_ticks, apic_ticks;
static volatile unsigned long interrupted_ip;

static int count_interrupt(struct frame *frame)
{
    interrupted_ip = frame->ip;
    if (frame->vector == VECTOR_PIC) {
        pit_ticks++;
        outb(PIC1, END_OF_INTERRUPT);
        return 1;
    }
    if (frame->vector == VECTOR_APIC) {
        apic_ticks++;
        APIC(APIC_EOI) = 0;
        return 1;
    }
    return 0;
}

static void set_up_pics(uint8_t mask)
{
    outb(PIC1, 0x11);
    outb(PIC2, 0x11);
    outb(PIC1 + 1, VECTOR_PIC);
    outb(PIC2 + 1, VECTOR_PIC + 8);
    outb(PIC1 + 1, 4);
    outb(PIC2 + 1, 2);
    outb(PIC1 + 1, 1);
    outb(PIC2 + 1, 1);
    outb(PIC1 + 1, mask);
    outb(PIC2 + 1, 0xff);
}

static void pit_every(unsigned ticks_a_second)
{
    unsigned divisor = 1193182 / ticks_a_second;
    outb(PIT_COMMAND, 0x34); /* channel 0, both bytes, mode 2: a pulse a period */
    outb(PIT_CHANNEL0, divisor);
    outb(PIT_CHANNEL0, divisor >> 8);
}

static void wait_for(volatile unsigned *ticks, unsigned target, const char *what)
{
    for (unsigned turn = 0; *ticks < target; turn++)
        check(turn < TURNS_MAX, what);
}

static void pit(void)
{
    set_up_pics(0xfe);
    pit_every(TICKS_A_SECOND);
    __asm__ volatile("sti");
    wait_for(&pit_ticks, 5, "the PIT never interrupts a busy processor");
    print("the PIT interrupts a busy processor\n");
    unsigned start = pit_ticks;
    while (pit_ticks < start + 5)
        __asm__ volatile("hlt");
    print("the PIT wakes a halted processor\n");
    __asm__ volatile("cli");
    start = pit_ticks;
    for (volatile unsigned turn = 0; turn < 1000000; turn++)
        ;
    check_equal("no interrupt while IF is clear", pit_ticks, start);
}

/* Waits until the timer's interrupt is pending, with interrupts off. */
static void wait_until_pending(void)
{
    for (unsigned turn = 0; !(APIC(APIC_IRR + (VECTOR_APIC >> 5) * 0x10) & 1u << (VECTOR_APIC & 31)); turn++)
        check(turn < TURNS_MAX, "the APIC's timer never runs out");
}

static void one_shot(uint32_t count)
{
    APIC(APIC_TIMER) = VECTOR_APIC;
    APIC(APIC_INITIAL) = count;
}

/* STI holds interrupts off for one more instruction, and so does a load of SS. */
static void shadows(void)
{
    extern const char after_nop[], after_next[];
    unsigned start = apic_ticks;
    one_shot(1000);
    wait_until_pending();
    __asm__ volatile("sti\n\tcli");
    check_equal("sti, cli lets nothing in", apic_ticks, start);
    __asm__ volatile("sti\n\tnop\nafter_nop: cli");
    check_equal("sti, nop, cli lets one in", apic_ticks, start + 1);
    check_equal("where it came", interrupted_ip, (unsigned long)after_nop);
    one_shot(1000);
    wait_until_pending();
    __asm__ volatile("push $2\n\torl $0x200, (%%esp)\n\tmov %%ss, %%eax\n\tpopf\nafter_next: mov %%eax, %%ss\n\tcli"
                     :
                     :
                     : "eax", "cc", "memory");
    check_equal("popf has no shadow", apic_ticks, start + 2);
    check_equal("where it came", interrupted_ip, (unsigned long)after_next);
    print("interrupt shadows\n");
}

static void apic(void)
{
    outb(PIC1 + 1, 0xff);
    APIC(APIC_SPURIOUS) = APIC_ENABLE | VECTOR_SPURIOUS;
    APIC(APIC_LINT0) = LINT_EXTINT;
    APIC(APIC_DIVIDE) = APIC_DIVIDE_BY_1;
    one_shot(100000);
    __asm__ volatile("sti");
    wait_for(&apic_ticks, 1, "the APIC's timer never interrupts");
    print("the APIC's timer, once\n");
    check_equal("one shot is one", APIC(APIC_CURRENT), 0);
    APIC(APIC_TIMER) = APIC_PERIODIC | VECTOR_APIC;
    APIC(APIC_INITIAL) = 1000000;
    while (apic_ticks < 6)
        __asm__ volatile("hlt");
    APIC(APIC_INITIAL) = 0;
    __asm__ volatile("cli");
    print("the APIC's timer, again and again\n");
    shadows();

    /* A task priority of the vector's class or above holds it off; lowering it lets it in. */
    unsigned start = apic_ticks;
    APIC(APIC_TPR) = VECTOR_APIC;
    one_shot(1000);
    wait_until_pending();
    __asm__ volatile("sti\n\tnop\n\tnop");
    check_equal("held off by the task priority", apic_ticks, start);
    APIC(APIC_TPR) = 0;
    wait_for(&apic_ticks, start + 1, "not let in by the task priority");
    __asm__ volatile("cli");
    print("task priority\n");
}

void test(void)
{
    set_up_traps();
    on_interrupt = count_interrupt;
    pit();
    apic();
}
