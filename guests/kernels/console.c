/* Does what it is told at the serial port, a byte a command: for tests of what a session does with inputs, idle time and
 * ends. It halts between interrupts, and ends if nobody says anything for a second. 16550D data sheet, section 8. */
#include "board.h"
#include "traps.h"

enum {
    PIC1 = 0x20,
    PIC2 = 0xa0,
    PIT_CHANNEL0 = 0x40,
    PIT_COMMAND = 0x43,
    END_OF_INTERRUPT = 0x20,
    VECTOR_PIC = 0x20,
    IRQ_TIMER = 0,
    IRQ_SERIAL = 4,
    SERIAL = 0x3f8,
    SERIAL_INTERRUPTS = SERIAL + 1,
    SERIAL_MODEM = SERIAL + 4,
    SERIAL_STATUS = SERIAL + 5,
    RECEIVE_INTERRUPT = 1,
    READY = 3,          /* DTR and RTS: the other side may send */
    INTERRUPT_LINE = 8, /* OUT2 opens it on a PC */
    HAS_RECEIVED = 1,
    KEYBOARD_COMMAND = 0x64,
    PULSE_RESET = 0xfe,
    TICKS_A_SECOND = 20,
    COMMANDS_MAX = 64,
};

static volatile unsigned ticks, come, gone;
static volatile uint8_t commands[COMMANDS_MAX];

static int is_careless;

static int on_irq(struct frame *frame)
{
    /* Nonsense may send us anything, non-maskable interrupts too. */
    if (is_careless)
        return 1;
    if (frame->vector == VECTOR_PIC + IRQ_TIMER)
        ticks++;
    else if (frame->vector == VECTOR_PIC + IRQ_SERIAL)
        while (inb(SERIAL_STATUS) & HAS_RECEIVED)
            commands[come++ % COMMANDS_MAX] = inb(SERIAL);
    else
        return 0;
    outb(PIC1, END_OF_INTERRUPT);
    return 1;
}

static void set_up(void)
{
    set_up_traps();
    on_interrupt = on_irq;
    outb(PIC1, 0x11);
    outb(PIC2, 0x11);
    outb(PIC1 + 1, VECTOR_PIC);
    outb(PIC2 + 1, VECTOR_PIC + 8);
    outb(PIC1 + 1, 4);
    outb(PIC2 + 1, 2);
    outb(PIC1 + 1, 1);
    outb(PIC2 + 1, 1);
    outb(PIC1 + 1, (uint8_t)~(1 << IRQ_TIMER | 1 << IRQ_SERIAL));
    outb(PIC2 + 1, 0xff);
    outb(PIT_COMMAND, 0x34);
    outb(PIT_CHANNEL0, (1193182 / TICKS_A_SECOND) & 0xff);
    outb(PIT_CHANNEL0, (1193182 / TICKS_A_SECOND) >> 8);
    outb(SERIAL_INTERRUPTS, RECEIVE_INTERRUPT);
    outb(SERIAL_MODEM, READY | INTERRUPT_LINE);
}

/* Halts until the next interrupt; none is missed between the look and the halt. */
static void halt_until(unsigned tick, int wakes_on_command)
{
    __asm__ volatile("cli");
    while ((int)(tick - ticks) > 0 && !(wakes_on_command && come != gone))
        __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
    __asm__ volatile("sti");
}

static void sleep(unsigned seconds)
{
    halt_until(ticks + seconds * TICKS_A_SECOND, 0);
    print("slept\n");
}

/* How far it counts differs from run to run, and is the same in each replay. */
static void count(void)
{
    unsigned turns = 0;
    for (unsigned end = ticks + 2 * TICKS_A_SECOND; (int)(end - ticks) > 0;)
        turns++;
    print_hex("counted", turns);
}

static void fill(void)
{
    uint8_t *page = (uint8_t *)0x400000;
    for (unsigned i = 0; i < 4096; i++)
        page[i] = i;
    print("filled\n");
}

static void triple_fault(void)
{
    static const struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } nothing;
    __asm__ volatile("lidt %0\n\tint3" : : "m"(nothing));
}

/* Programs every device with what a small generator says, and reads what comes; then resets, since nothing works any
 * more. The interrupt controllers, the timers, the clock, the serial port, the keyboard's and the power block among them. */
static void nonsense(void)
{
    static const uint16_t ports[] = { 0x20, 0x40, 0x60, 0x70, 0xa0, 0xcf8, 0x3f8, 0x4d0, 0x600 };
    static const uint32_t places[] = { 0xfec00000, 0xfee00000, 0xfed00000, 0xfeb00000 };
    uint32_t state = 1;
    is_careless = 1;
    __asm__ volatile("cli");
    for (int i = 0; i < 100000; i++) {
        state = state * 1664525 + 1013904223;
        uint32_t value = state ^ state >> 15;
        if (state >> 31) {
            volatile uint32_t *at = (uint32_t *)(places[value & 3] + (state >> 8 & 0xffc));
            *at = value;
            value += *at;
        } else {
            uint16_t port = ports[(state >> 8) % (sizeof ports / sizeof ports[0])] + (state >> 24 & 15);
            /* Not those that end it: reset by the keyboard's controller and by 0xcf9, off by 0x605. */
            if (port != KEYBOARD_COMMAND && port != 0xcf9 && port != 0x604 && port != 0x605)
                outb(port, value);
            inb(port);
        }
    }
    outb(KEYBOARD_COMMAND, PULSE_RESET);
}

static int obey(uint8_t command)
{
    switch (command) {
    case 's': sleep(3); break;
    case 'c': count(); break;
    case 'f': fill(); break;
    case 'd': __asm__ volatile("cli\n\thlt"); break;
    case 't': triple_fault(); break;
    case 'r': outb(KEYBOARD_COMMAND, PULSE_RESET); break;
    case 'n': nonsense(); break;
    case 'x': ((void (*)(void))0xe0000000)(); break;
    case 'q': return 0;
    case '\n': break;
    default: {
        char text[] = "you said ?\n";
        text[9] = command;
        print(text);
    }
    }
    return 1;
}

void test(void)
{
    set_up();
    print("ready\n");
    for (;;) {
        halt_until(ticks + TICKS_A_SECOND, 1);
        if (come == gone) {
            print("no input\n");
            return;
        }
        if (!obey(commands[gone++ % COMMANDS_MAX]))
            return;
    }
}
