/* Code that changes code: the next execution must see the change, on any page and by any kind of write.
 * SDM volume 3, section 11.6 (on one processor no serialising instruction is needed after the write but a jump). */
#include "board.h"
#include "traps.h"

static uint8_t code[3 * 4096] __attribute__((aligned(4096)));

/* mov $value, %eax; ret */
static void assemble(uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    __builtin_memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static uint32_t call(const uint8_t *at)
{
    uint32_t result;
    __asm__ volatile("call *%1" : "=a"(result) : "r"(at) : "ecx", "edx", "memory", "cc");
    return result;
}

/* The immediate of a function is overwritten between calls, by a byte, by a word, by a string instruction. */
static void between_calls(void)
{
    assemble(code, 1);
    check_equal("first", call(code), 1);
    *(volatile uint8_t *)(code + 1) = 2;
    check_equal("a byte", call(code), 2);
    *(volatile uint32_t *)(code + 1) = 0x12345678;
    check_equal("a word", call(code), 0x12345678);
    uint8_t *to = code + 1;
    uint32_t count = 4;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0x55) : "memory");
    check_equal("a string", call(code), 0x55555555);
    uint32_t old = 0x55555555;
    __asm__ volatile("lock cmpxchg %2, %1" : "+a"(old), "+m"(*(uint32_t *)(code + 1)) : "r"(77) : "cc", "memory");
    check_equal("a locked exchange", call(code), 77);
    print("between calls\n");
}

/* An instruction overwrites the one right behind it. */
static void next_instruction(void)
{
    uint32_t result;
    __asm__ volatile("movb $0x40, 1f\n"    /* 0x40: inc %%eax */
                     "\tjmp 1f\n"
                     "1:\tnop\n"           /* becomes inc %%eax */
                     "\tmovb $0x90, 1b\n"  /* and nop again, for the next time */
                     : "=a"(result)
                     : "a"(10)
                     : "cc", "memory");
    check_equal("the next instruction", result, 11);
    print("the next instruction\n");
}

/* An instruction that lies across two pages, changed in its second page only. */
static void across_pages(void)
{
    uint8_t *at = code + 4096 - 3;
    assemble(at, 0x11223344);
    check_equal("across", call(at), 0x11223344);
    *(volatile uint8_t *)(code + 4096) = 0x99;
    check_equal("changed in the second page", call(at), 0x11993344);
    print("across pages\n");
}

/* Data beside code on one page: writing it changes no instruction, however often. */
static void data_beside_code(void)
{
    assemble(code, 5);
    volatile uint32_t *data = (volatile uint32_t *)(code + 64);
    *data = 0;
    uint32_t sum = 0;
    for (int i = 0; i < 20000; i++) {
        *data += 1;
        sum += call(code);
    }
    check_equal("data", *data, 20000);
    check_equal("code", sum, 100000);
    print("data beside code\n");
}

/* A loop that rewrites its own body each turn. */
static void many_times(void)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        assemble(code + 8192 + (i & 31), i);
        sum += call(code + 8192 + (i & 31));
    }
    check_equal("sum of what was written", sum, 4999 * 5000 / 2);
    print("many times\n");
}

void test(void)
{
    set_up_traps();
    between_calls();
    next_instruction();
    across_pages();
    data_beside_code();
    many_times();
}
