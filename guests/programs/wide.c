/* What x86-64-v3 adds, each over many operands: AVX and AVX2 on 256 bits, FMA, F16C, BMI1, BMI2, LZCNT, MOVBE; and two
 * processes that keep numbers in the upper halves of YMM registers while the kernel switches between them.
 *
 * Prints a digest a group; every x86-64-v3 processor prints the same. On a lesser one it says so and fails. */
#include "programs.h"

#include <immintrin.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Only what is reached behind the test for it may use it. */
#define V3 __attribute__((target("avx2,fma,f16c,bmi,bmi2,lzcnt,movbe")))

static uint64_t digest = 14695981039346656037u;

static void add(uint64_t value)
{
    digest = (digest ^ value) * 1099511628211u;
    digest ^= digest >> 32;
}

static void report(const char *name)
{
    printf("%s %016llx\n", name, (unsigned long long)digest);
    digest = 14695981039346656037u;
}

static uint64_t state = 20021209;

V3 static void add_vector(__m256i value)
{
    uint64_t parts[4];
    _mm256_storeu_si256((__m256i *)parts, value);
    for (int i = 0; i < 4; i++)
        add(parts[i]);
}

V3 static __m256i next_vector(void)
{
    uint64_t parts[4];
    for (int i = 0; i < 4; i++)
        parts[i] = next_random(&state);
    return _mm256_loadu_si256((__m256i *)parts);
}

/* Singles from -8 to 8, some of them denormal. */
V3 static __m256 next_singles(void)
{
    __m256i bits = next_vector();
    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(bits), _mm256_set1_ps(0x1p-28f));
    __m256 tiny = _mm256_castsi256_ps(_mm256_srli_epi32(bits, 10));
    return _mm256_blendv_ps(value, tiny, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 27)));
}

V3 static __m256d next_doubles(void)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(next_singles()));
}

V3 static void packed_integers(__m256i a, __m256i b)
{
    add_vector(_mm256_adds_epi8(a, b));
    add_vector(_mm256_sub_epi64(a, b));
    add_vector(_mm256_madd_epi16(a, b));
    add_vector(_mm256_mullo_epi32(a, b));
    add_vector(_mm256_sad_epu8(a, b));
    add_vector(_mm256_packus_epi32(a, b));
    add_vector(_mm256_unpackhi_epi16(a, b));
    add_vector(_mm256_cmpgt_epi64(a, b));
    add_vector(_mm256_shuffle_epi8(a, b));
    add_vector(_mm256_alignr_epi8(a, b, 7));
    add_vector(_mm256_mpsadbw_epu8(a, b, 0x2d));
    add_vector(_mm256_blend_epi32(a, b, 0x5a));
    add_vector(_mm256_cvtepi8_epi32(_mm256_castsi256_si128(a)));
    add_vector(_mm256_sllv_epi32(a, _mm256_and_si256(b, _mm256_set1_epi32(63))));
    add_vector(_mm256_srav_epi32(a, _mm256_and_si256(b, _mm256_set1_epi32(63))));
    add_vector(_mm256_srlv_epi64(a, _mm256_and_si256(b, _mm256_set1_epi64x(127))));
    add_vector(_mm256_slli_epi16(a, 3));
    add(_mm256_movemask_epi8(a));
    add(_mm256_testc_si256(a, b) | _mm256_testz_si256(a, b) << 1);
}

V3 static void arranged(__m256i a, __m256i b)
{
    add_vector(_mm256_permutevar8x32_epi32(a, b));
    add_vector(_mm256_permute4x64_epi64(a, 0x1b));
    add_vector(_mm256_permute2x128_si256(a, b, 0x21));
    add_vector(_mm256_permute2x128_si256(a, b, 0x83));
    add_vector(_mm256_broadcastw_epi16(_mm256_castsi256_si128(a)));
    add_vector(_mm256_inserti128_si256(a, _mm256_castsi256_si128(b), 1));
    add_vector(_mm256_castsi128_si256(_mm256_extracti128_si256(a, 1)));
    add_vector(_mm256_castps_si256(_mm256_permutevar_ps(_mm256_castsi256_ps(a), b)));
    add_vector(_mm256_castpd_si256(_mm256_permute_pd(_mm256_castsi256_pd(a), 0x9)));
}

V3 static void memory(__m256i a, __m256i b)
{
    static uint32_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = i * 2654435761u;
    __m256i index = _mm256_and_si256(a, _mm256_set1_epi32(127));
    add_vector(_mm256_mask_i32gather_epi32(b, (int *)table, index, a, 4));
    add_vector(_mm256_i64gather_epi64((long long *)table, _mm256_and_si256(a, _mm256_set1_epi64x(127)), 8));
    add_vector(_mm256_maskload_epi32((int *)table + 9, a));
    _mm256_maskstore_epi64((long long *)table + 11, b, a);
    add_vector(_mm256_loadu_si256((__m256i *)(table + 21)));
}

V3 static void floats(void)
{
    __m256 a = next_singles(), b = next_singles(), c = next_singles();
    __m256d d = next_doubles(), e = next_doubles(), f = next_doubles();
    add_vector(_mm256_castps_si256(_mm256_div_ps(a, b)));
    add_vector(_mm256_castps_si256(_mm256_sqrt_ps(a)));
    add_vector(_mm256_castps_si256(_mm256_hadd_ps(a, b)));
    add_vector(_mm256_castps_si256(_mm256_dp_ps(a, b, 0xb7)));
    add_vector(_mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_NGE_UQ)));
    add_vector(_mm256_castps_si256(_mm256_round_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)));
    add_vector(_mm256_castpd_si256(_mm256_addsub_pd(d, e)));
    add_vector(_mm256_castsi128_si256(_mm256_cvtpd_epi32(d)));
    add_vector(_mm256_castps_si256(_mm256_fmadd_ps(a, b, c)));
    add_vector(_mm256_castps_si256(_mm256_fmsubadd_ps(a, b, c)));
    add_vector(_mm256_castpd_si256(_mm256_fnmsub_pd(d, e, f)));
    add_vector(_mm256_castps_si256(_mm256_cvtph_ps(_mm256_cvtps_ph(a, 3))));
    add(_mm_getcsr());
}

V3 static void integers(uint64_t a, uint64_t b)
{
    unsigned long long high;
    add(_andn_u64(a, b));
    add(_bextr_u64(a, b & 63, b >> 6 & 63));
    add(_blsi_u64(a) ^ _blsr_u64(b) ^ _blsmsk_u64(a));
    add(_bzhi_u64(a, b & 127));
    add(_lzcnt_u64(a >> (b & 63)) + _tzcnt_u64(a << (b & 63)));
    add(_mulx_u64(a, b, &high));
    add(high);
    add(_pdep_u64(a, b) ^ _pext_u64(a, b));
    add(a << (b & 63) ^ (int64_t)a >> (b >> 6 & 63));
    __asm__("movbe %1, %0" : "=r"(high) : "m"(a));
    add(high);
}

V3 static void run_groups(void)
{
    for (int i = 0; i < 1000; i++) {
        __m256i a = next_vector();
        packed_integers(a, next_vector());
    }
    report("packed integers");
    for (int i = 0; i < 1000; i++) {
        __m256i a = next_vector();
        arranged(a, next_vector());
    }
    report("arranged");
    for (int i = 0; i < 1000; i++) {
        __m256i a = next_vector();
        memory(a, next_vector());
    }
    report("memory");
    for (int i = 0; i < 1000; i++)
        floats();
    report("floating point");
    for (int i = 0; i < 1000; i++) {
        uint64_t a = next_random(&state);
        integers(a, next_random(&state));
    }
    report("integers");
}

static volatile sig_atomic_t ticks;

V3 static void on_tick(int number)
{
    (void)number;
    /* A handler has registers of its own, and may spoil them. */
    _mm256_zeroall();
    ticks++;
}

/* Counts in the upper half of a register until `ticks` timer signals have come, yielding all the while. */
V3 static int keep_counting(uint64_t step)
{
    struct itimerval timer = {{0, 2000}, {0, 2000}};
    signal(SIGALRM, on_tick);
    setitimer(ITIMER_REAL, &timer, NULL);
    uint64_t counted = 0, low, high;
    __m256i sum = _mm256_setzero_si256(), steps = _mm256_set_epi64x(step, 1, 2, 3);
    for (; ticks < 10; counted++) {
        sum = _mm256_add_epi64(sum, steps);
        /* A system call keeps them all, though no C compiler may count on that. */
        long result = SYS_sched_yield;
        __asm__ volatile("syscall" : "+a"(result), "+x"(sum), "+x"(steps) : : "rcx", "r11", "memory");
    }
    high = _mm256_extract_epi64(sum, 3);
    low = _mm256_extract_epi64(sum, 0);
    return high == counted * step && low == counted * 3 ? 0 : 1;
}

static const char *two_processes(void)
{
    int failed = 0;
    for (uint64_t step = 5; step <= 7; step += 2) {
        pid_t child = fork();
        if (child < 0)
            give_up("fork");
        if (child == 0)
            _exit(keep_counting(step));
    }
    for (int status; wait(&status) > 0;)
        failed |= status;
    return failed ? "lost their registers" : "kept their registers";
}

int program_wide(int argc, char **argv)
{
    (void)argc, (void)argv;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) {
        puts("this is no x86-64-v3 processor");
        return 1;
    }
    run_groups();
    printf("two processes %s\n", two_processes());
    return 0;
}
