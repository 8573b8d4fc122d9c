/* What every bare-metal test kernel uses of the board: the serial port, the exit port, descriptors. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>
#include <stdnoreturn.h>

/* Each test kernel is one of these. Returning ends the machine with success. */
void test(void);

/* The console: 16550 at 0x3f8. */
void print(const char *text);
void print_hex(const char *name, uint32_t value);

/* Ends the machine with success if `good`, else goes on to say `what` was wrong and ends it with failure. */
void check(int good, const char *what);
void check_equal(const char *what, uint32_t found, uint32_t expected);

/* isa-debug-exit: the process of the machine ends with (code << 1) | 1. */
enum { EXIT_PORT = 0xf4, EXIT_SUCCESS = 0x10, EXIT_FAILURE = 0x11 };
noreturn void end(uint8_t code);

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

#endif
