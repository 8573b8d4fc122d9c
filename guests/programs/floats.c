/* Floating point whose results the standards fix to the bit: x87 and SSE, all rounding modes, special values, exceptions.
 *
 * Transcendental and approximate instructions are left out: their last bits belong to the make of the processor. */
#include "programs.h"

#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double specials[] = {0.0,      -0.0,    1.0,          -1.5,    1.0 / 3,  INFINITY, -INFINITY, NAN,
                                  5e-324,   1e-310,  -2.2250738585072014e-308, 1.7976931348623157e308, 3.5, 4.5, 1e19, -123456.789};
enum { SPECIALS = sizeof specials / sizeof specials[0] };

static uint64_t digest;
static void add_bytes(const void *bytes, int len)
{
    for (int i = 0; i < len; i++)
        digest = (digest ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
}

static void add_double(double value)
{
    add_bytes(&value, sizeof value);
}

static void report(const char *name)
{
    printf("%s %016llx\n", name, (unsigned long long)digest);
    digest = 14695981039346656037u;
}

static void double_arithmetic(void)
{
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    for (int mode = 0; mode < 4; mode++) {
        fesetround(modes[mode]);
        for (int i = 0; i < SPECIALS; i++)
            for (int j = 0; j < SPECIALS; j++) {
                volatile double a = specials[i], b = specials[j];
                feclearexcept(FE_ALL_EXCEPT);
                add_double(a + b);
                add_double(a - b);
                add_double(a * b);
                add_double(a / b);
                volatile float narrow = (float)a;
                add_double(narrow);
                int raised = fetestexcept(FE_ALL_EXCEPT);
                add_bytes(&raised, sizeof raised);
            }
    }
    fesetround(FE_TONEAREST);
    report("sse arithmetic");
}

static void conversions(void)
{
    for (int i = 0; i < SPECIALS; i++) {
        double value = specials[i];
        int64_t wide;
        int32_t narrow;
        __asm__ volatile("cvtsd2si %1, %0" : "=r"(wide) : "x"(value));
        add_bytes(&wide, sizeof wide);
        __asm__ volatile("cvttsd2si %1, %0" : "=r"(wide) : "x"(value));
        add_bytes(&wide, sizeof wide);
        __asm__ volatile("cvtsd2si %1, %0" : "=r"(narrow) : "x"(value));
        add_bytes(&narrow, sizeof narrow);
        double root;
        __asm__ volatile("sqrtsd %1, %0" : "=x"(root) : "x"(value));
        add_double(root);
        for (int j = 0; j < SPECIALS; j++) {
            double low, high;
            uint8_t below, unordered;
            low = high = value;
            __asm__ volatile("minsd %1, %0" : "+x"(low) : "x"(specials[j]));
            __asm__ volatile("maxsd %1, %0" : "+x"(high) : "x"(specials[j]));
            __asm__ volatile("ucomisd %3, %2\n\tsetb %0\n\tsetp %1"
                             : "=q"(below), "=q"(unordered)
                             : "x"(value), "x"(specials[j])
                             : "cc");
            add_double(low);
            add_double(high);
            add_bytes(&below, 1);
            add_bytes(&unordered, 1);
        }
    }
    report("sse conversions");
}

static void extended(void)
{
    for (int i = 0; i < SPECIALS; i++)
        for (int j = 0; j < SPECIALS; j++) {
            volatile long double a = specials[i], b = specials[j];
            uint16_t status;
            __asm__ volatile("fnclex");
            long double results[] = {a + b, a - b, a * b, a / b, __builtin_sqrtl(a), __builtin_rintl(a), fmodl(a, b)};
            __asm__ volatile("fnstsw %0" : "=a"(status));
            for (unsigned k = 0; k < sizeof results / sizeof results[0]; k++)
                add_bytes(&results[k], 10);
            status &= 0x7f;
            add_bytes(&status, sizeof status);
        }
    report("x87 arithmetic");
}

static void precision_control(void)
{
    static const uint16_t words[] = {0x037f, 0x027f, 0x007f, 0x077f, 0x0b7f, 0x0f7f};
    for (unsigned w = 0; w < sizeof words / sizeof words[0]; w++) {
        long double x = 1.0L, third = 3.0L;
        __asm__ volatile("fldcw %0" : : "m"(words[w]));
        for (int i = 0; i < 200; i++) {
            __asm__ volatile("fdivp" : "=t"(x) : "0"(x + 0.1L), "u"(third) : "st(1)");
            add_bytes(&x, 10);
            x += i;
        }
    }
    static const uint16_t usual = 0x037f;
    __asm__ volatile("fldcw %0" : : "m"(usual));
    report("x87 precision and rounding");
}

static void saved_state(void)
{
    static uint8_t image[512] __attribute__((aligned(16)));
    __asm__ volatile("fninit\n\tfld1\n\tfldpi\n\tfldz\n\tfxsave64 %0\n\tfninit" : "=m"(image));
    memset(image + 6, 0, 18); /* which x87 instruction was last, and where: differs by make */
    memset(image + 28, 0, 4); /* which bits of MXCSR there are */
    add_bytes(image, 160);
    report("fxsave");
}

int program_floats(int argc, char **argv)
{
    (void)argc, (void)argv;
    digest = 14695981039346656037u;
    double_arithmetic();
    conversions();
    extended();
    precision_control();
    saved_state();
    return 0;
}
