/* String instructions: all widths, both directions, repetition, overlap, the 16-bit address size, and interrupts inside.
 * SDM volume 1, section 7.3.9; volume 2, REP. */
#include "board.h"
#include "traps.h"

static uint8_t from[4096], to[4096];

static void fill(void)
{
    for (unsigned i = 0; i < sizeof from; i++) {
        from[i] = i * 7 + (i >> 8);
        to[i] = 0;
    }
}

static uint32_t digest(const uint8_t *bytes, unsigned len)
{
    uint32_t value = 2166136261u;
    for (unsigned i = 0; i < len; i++)
        value = (value ^ bytes[i]) * 16777619u;
    return value;
}

#define STRING(instruction, si, di, cx, ax)                                                       \
    ({                                                                                            \
        const void *s = (si);                                                                     \
        void *d = (di);                                                                           \
        uint32_t c = (cx), a = (ax), f;                                                           \
        __asm__ volatile(instruction "; pushf; pop %0; cld"                                       \
                         : "=r"(f), "+S"(s), "+D"(d), "+c"(c), "+a"(a)                            \
                         :                                                                        \
                         : "cc", "memory");                                                       \
        (struct after){(uint32_t)s - (uint32_t)(si), (uint32_t)d - (uint32_t)(di), c, a, f & 0x8c5}; \
    })
struct after {
    uint32_t si, di, cx, ax, flags;
};

static void show(const char *name, struct after after)
{
    print(name);
    print("\n");
    print_hex("  si   ", after.si);
    print_hex("  di   ", after.di);
    print_hex("  cx   ", after.cx);
    print_hex("  ax   ", after.ax);
    print_hex("  flags", after.flags);
    print_hex("  to   ", digest(to, sizeof to));
}

void test(void)
{
    set_up_traps();
    fill();
    show("rep movsb", STRING("rep movsb", from, to, 1000, 0));
    show("rep movsw", STRING("rep movsw", from, to + 1, 500, 0));
    show("rep movsl", STRING("rep movsl", from + 3, to, 900, 0));
    show("rep movsb, backwards", STRING("std; rep movsb", from + 2000, to + 3000, 1500, 0));
    show("rep movsl, backwards", STRING("std; rep movsl", from + 2000, to + 3001, 400, 0));
    show("rep movsb onto itself, one further", STRING("rep movsb", to, to + 1, 300, 0));
    show("rep stosb", STRING("rep stosb", from, to + 5, 77, 0xab));
    show("rep stosl", STRING("rep stosl", from, to + 400, 77, 0x12345678));
    show("rep stosw, none", STRING("rep stosw", from, to, 0, 1));
    show("rep lodsb", STRING("rep lodsb", from + 9, to, 12, 0));
    show("repne scasb, found", STRING("repne scasb", from, from, 4000, 0x77));
    show("repe cmpsb, differs", STRING("repe cmpsb", from, from + 256, 300, 0));
    show("repe cmpsl, equal", STRING("repe cmpsl", from, from, 300, 0));
    show("repe cmpsb, none keeps the flags", STRING("cmp %%eax, %%eax; repe cmpsb", from, to, 0, 0));
    show("movsw", STRING("movsw", from + 100, to + 100, 1, 0));
    /* The lowest bytes that no firmware uses; address 0x10500 would be read if the upper half of ESI or ECX counted. */
    __builtin_memcpy((void *)0x10500, "wrong", 5);
    __builtin_memcpy((void *)0x500, "right", 5);
    show("addr16 rep lodsb", STRING("addr16 rep lodsb", (void *)0x10500, to, 0xffff0003, 0));
}
