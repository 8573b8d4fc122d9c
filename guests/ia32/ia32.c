/* A 32-bit program for a 64-bit kernel: compatibility mode, `int 0x80`, segments with a base, instructions that exist
 * only there. It has no C library, so that it can be built without 32-bit packages.
 *
 * Prints one line a check; the same everywhere. Linux: arch/x86/entry/syscalls/syscall_32.tbl. */

enum { SYS_EXIT = 1, SYS_WRITE = 4, SYS_GETPID = 20, SYS_SET_THREAD_AREA = 243 };

static int syscall3(int number, int a, int b, int c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static void print(const char *text)
{
    int len = 0;
    while (text[len])
        len++;
    syscall3(SYS_WRITE, 1, (int)text, len);
}

static void report(const char *name, unsigned value)
{
    char digits[] = "00000000\n";
    for (int i = 7; i >= 0; i--, value >>= 4)
        digits[i] = "0123456789abcdef"[value & 15];
    print(name);
    print(" ");
    print(digits);
}

/* Decimal adjustment, `bound`, `arpl`, `aaa`: gone in 64-bit mode, so only this reaches them. */
static void only_here(void)
{
    unsigned a = 0x1279, flags;
    __asm__("add $0x35, %%al\n\tdaa\n\tpushf\n\tpop %1" : "+a"(a), "=r"(flags) : : "cc");
    report("daa", a << 16 | (flags & 0x11));
    a = 0x0605;
    __asm__("sub $0x09, %%al\n\taas\n\tpushf\n\tpop %1" : "+a"(a), "=r"(flags) : : "cc");
    report("aas", a << 16 | (flags & 0x11));
    a = 0x0055;
    __asm__("aam" : "+a"(a) : : "cc");
    report("aam", a);
    __asm__("aad" : "+a"(a) : : "cc");
    report("aad", a);
    unsigned sum = 0;
    __asm__("push %%es\n\tpop %0" : "=r"(sum));
    report("es", sum & 0xffff);
    int limits[2] = {-5, 5};
    __asm__("bound %0, %1" : : "r"(3), "m"(limits));
    print("bound passed\n");
}

/* All eight registers through `pusha` and `popa`, and the stack as 32-bit slots. */
static void registers(void)
{
    unsigned before = 0x12345678, after;
    __asm__ volatile("mov %1, %%ebx\n\tpusha\n\txor %%ebx, %%ebx\n\tpopa\n\tmov %%ebx, %0"
                     : "=r"(after)
                     : "r"(before)
                     : "ebx");
    report("popa", after);
    unsigned wide = 0xffffffff;
    __asm__("inc %0" : "+r"(wide));
    report("inc", wide);
}

/* A segment with its own base: what thread-local storage is made of. */
static void thread_area(void)
{
    static unsigned storage[4] = {0xfeedface, 0xcafe, 0, 0};
    struct {
        unsigned entry, base, limit, flags;
    } description = {-1u, (unsigned)storage, 0xfffff, 0x51};
    int result = syscall3(SYS_SET_THREAD_AREA, (int)&description, 0, 0);
    if (result) {
        report("set_thread_area failed", result);
        return;
    }
    unsigned value;
    __asm__ volatile("mov %1, %%gs\n\tmov %%gs:4, %0" : "=r"(value) : "r"(description.entry << 3 | 3));
    report("gs:4", value);
}

static void arithmetic(void)
{
    unsigned long long product = 0xfedcba9876543210ull;
    for (int i = 0; i < 1000; i++) {
        product = product * 6364136223846793005ull + 1442695040888963407ull;
        product ^= product >> 29;
    }
    report("product low", product);
    report("product high", product >> 32);
}

void _start(void)
{
    print("32-bit program\n");
    arithmetic();
    registers();
    only_here();
    thread_area();
    print(syscall3(SYS_GETPID, 0, 0, 0) > 0 ? "int 0x80 answers\n" : "int 0x80 fails\n");
    print("end\n");
    syscall3(SYS_EXIT, 0, 0, 0);
    __builtin_unreachable();
}
