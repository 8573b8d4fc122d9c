/* The serial port, the exit port and the checks that every bare-metal test kernel uses. */
#include "board.h"

enum { SERIAL = 0x3f8, LINE_STATUS = SERIAL + 5, TRANSMITTER_EMPTY = 0x20 };

void print(const char *text)
{
    for (; *text; text++) {
        while (!(inb(LINE_STATUS) & TRANSMITTER_EMPTY))
            ;
        outb(SERIAL, *text);
    }
}

void print_hex(const char *name, uint32_t value)
{
    char digits[] = "00000000\n";
    for (int i = 7; i >= 0; i--, value >>= 4)
        digits[i] = "0123456789abcdef"[value & 15];
    print(name);
    print(" ");
    print(digits);
}

void end(uint8_t code)
{
    outb(EXIT_PORT, code);
    /* A machine without the port goes on: it must not run into whatever follows. */
    for (;;)
        __asm__ volatile("cli; hlt");
}

void check(int good, const char *what)
{
    if (good)
        return;
    print("FAILED: ");
    print(what);
    print("\n");
    end(EXIT_FAILURE);
}

void check_equal(const char *what, uint32_t found, uint32_t expected)
{
    if (found == expected)
        return;
    print("FAILED: ");
    print(what);
    print("\n");
    print_hex("  found   ", found);
    print_hex("  expected", expected);
    end(EXIT_FAILURE);
}

/* Called by start.S with what the loader left in EAX and EBX. */
void begin(uint32_t magic, uint32_t information)
{
    (void)information;
    check_equal("the loader's magic number", magic, 0x2badb002);
    test();
    print("passed\n");
    end(EXIT_SUCCESS);
}
