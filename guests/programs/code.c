/* Programs that write programs: code changed in place, through a second mapping, between pages, after being made read-only.
 *
 * A translator that keeps old code prints other numbers. */
#define _GNU_SOURCE
#include "programs.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LEN = 3 * 4096 };

/* mov $value, %eax; ret */
static void assemble(volatile uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    for (int i = 0; i < 4; i++)
        at[1 + i] = value >> 8 * i;
    at[5] = 0xc3;
}

static uint32_t call(volatile uint8_t *at)
{
    return ((uint32_t(*)(void))(uintptr_t)at)();
}

static void in_place(uint8_t *code)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        assemble(code, i);
        sum += call(code);
        code[1] ^= 0x80;
        sum += call(code);
    }
    printf("in place %llu\n", (unsigned long long)sum);
}

static void across_pages(uint8_t *code)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 300; i++) {
        uint8_t *at = code + 4096 - 5 + i % 6;
        assemble(at, 0x01010101 * i);
        sum += call(at);
        code[4096] ^= 0x40;
        sum += (uint8_t)code[4096];
        code[4096] ^= 0x40;
        sum += call(at);
    }
    printf("across pages %llu\n", (unsigned long long)sum);
}

/* One page mapped twice: written through one mapping, run through the other. */
static void through_a_second_mapping(void)
{
    int file = memfd_create("code", 0);
    if (file < 0 || ftruncate(file, 4096))
        give_up("memfd_create");
    uint8_t *written = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint8_t *run = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (written == MAP_FAILED || run == MAP_FAILED)
        give_up("mmap");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        assemble(written + i % 3 * 16, i * 7);
        sum += call(run + i % 3 * 16);
    }
    printf("through a second mapping %llu\n", (unsigned long long)sum);
}

/* Read-only while it runs, writable while it changes, as a compiler that runs in the same process does it. */
static void with_changing_rights(uint8_t *code)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 300; i++) {
        if (mprotect(code, LEN, PROT_READ | PROT_WRITE))
            give_up("mprotect");
        assemble(code + 64, i * 11);
        if (mprotect(code, LEN, PROT_READ | PROT_EXEC))
            give_up("mprotect");
        sum += call(code + 64);
    }
    if (mprotect(code, LEN, PROT_READ | PROT_WRITE | PROT_EXEC))
        give_up("mprotect");
    printf("with changing rights %llu\n", (unsigned long long)sum);
}

/* The page is given back and mapped anew at the same address: other code, same place. */
static void at_the_same_address(void)
{
    uint64_t sum = 0;
    void *place = 0;
    for (uint32_t i = 0; i < 300; i++) {
        uint8_t *code = mmap(place, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS | (place ? MAP_FIXED : 0), -1, 0);
        if (code == MAP_FAILED)
            give_up("mmap");
        place = code;
        assemble(code, i * 13);
        sum += call(code);
    }
    printf("at the same address %llu\n", (unsigned long long)sum);
}

/* The code writes over the instruction that comes next. */
static void the_next_instruction(uint8_t *code)
{
    /* movb $imm, disp32(%rip) onto the immediate of the `mov $0, %eax` behind it; ret */
    static const uint8_t template[] = {0xc6, 0x05, 1, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 500; i++) {
        memcpy(code, template, sizeof template);
        code[6] = i;
        sum += call(code);
    }
    printf("the next instruction %llu\n", (unsigned long long)sum);
}

int program_code(int argc, char **argv)
{
    (void)argc, (void)argv;
    uint8_t *code = mmap(0, LEN, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        give_up("mmap");
    in_place(code);
    across_pages(code);
    through_a_second_mapping();
    with_changing_rights(code);
    at_the_same_address();
    the_next_instruction(code);
    return 0;
}
