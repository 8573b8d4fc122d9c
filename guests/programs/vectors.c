/* Integer and packed instructions of x86-64-v2, each over many operands: SSE2 to SSE4.2, POPCNT, CMPXCHG16B, bit tests.
 *
 * Prints a digest a group; every x86-64-v2 processor prints the same. */
#include "programs.h"

#include <nmmintrin.h>
#include <stdio.h>
#include <tmmintrin.h>

static uint64_t digest = 14695981039346656037u;

static void add(uint64_t value)
{
    digest = (digest ^ value) * 1099511628211u;
    digest ^= digest >> 32;
}

static void add_vector(__m128i value)
{
    add(_mm_cvtsi128_si64(value));
    add(_mm_extract_epi64(value, 1));
}

static void report(const char *name)
{
    printf("%s %016llx\n", name, (unsigned long long)digest);
    digest = 14695981039346656037u;
}

static uint64_t state = 20021209;
static __m128i next_vector(void)
{
    uint64_t low = next_random(&state);
    return _mm_set_epi64x(next_random(&state), low);
}

static void packed_integers(__m128i a, __m128i b)
{
    add_vector(_mm_adds_epi8(a, b));
    add_vector(_mm_adds_epu16(a, b));
    add_vector(_mm_subs_epi16(a, b));
    add_vector(_mm_sub_epi64(a, b));
    add_vector(_mm_mulhi_epi16(a, b));
    add_vector(_mm_mul_epu32(a, b));
    add_vector(_mm_madd_epi16(a, b));
    add_vector(_mm_avg_epu8(a, b));
    add_vector(_mm_sad_epu8(a, b));
    add_vector(_mm_packs_epi32(a, b));
    add_vector(_mm_packus_epi16(a, b));
    add_vector(_mm_unpacklo_epi8(a, b));
    add_vector(_mm_unpackhi_epi32(a, b));
    add_vector(_mm_cmpgt_epi8(a, b));
    add_vector(_mm_cmpeq_epi16(a, b));
    add_vector(_mm_sll_epi32(a, _mm_and_si128(b, _mm_set_epi64x(0, 63))));
    add_vector(_mm_sra_epi16(a, _mm_and_si128(b, _mm_set_epi64x(0, 31))));
    add_vector(_mm_shuffle_epi32(a, 0x1b));
    add_vector(_mm_shufflelo_epi16(a, 0xc6));
    add_vector(_mm_srli_si128(a, 5));
    add(_mm_movemask_epi8(a));
}

static void ssse3_to_sse41(__m128i a, __m128i b)
{
    add_vector(_mm_shuffle_epi8(a, b));
    add_vector(_mm_hadds_epi16(a, b));
    add_vector(_mm_hsub_epi32(a, b));
    add_vector(_mm_maddubs_epi16(a, b));
    add_vector(_mm_mulhrs_epi16(a, b));
    add_vector(_mm_sign_epi8(a, b));
    add_vector(_mm_abs_epi32(a));
    add_vector(_mm_alignr_epi8(a, b, 7));
    add_vector(_mm_blendv_epi8(a, b, _mm_xor_si128(a, b)));
    add_vector(_mm_mullo_epi32(a, b));
    add_vector(_mm_mul_epi32(a, b));
    add_vector(_mm_min_epi8(a, b));
    add_vector(_mm_max_epu32(a, b));
    add_vector(_mm_cvtepi8_epi32(a));
    add_vector(_mm_cvtepu16_epi64(a));
    add_vector(_mm_packus_epi32(a, b));
    add_vector(_mm_mpsadbw_epu8(a, b, 5));
    add_vector(_mm_minpos_epu16(a));
    add(_mm_testc_si128(a, b) | _mm_testz_si128(a, b) << 1);
    add_vector(_mm_insert_epi8(a, 77, 9));
}

static void sse42(__m128i a, __m128i b)
{
    __m128i text = _mm_and_si128(a, _mm_set1_epi8(7)), set = _mm_and_si128(b, _mm_set1_epi8(7));
    add_vector(_mm_cmpgt_epi64(a, b));
    add(_mm_cmpestri(text, 11, set, 5, _SIDD_CMP_EQUAL_ANY));
    add(_mm_cmpistri(text, set, _SIDD_CMP_RANGES | _SIDD_MOST_SIGNIFICANT));
    add_vector(_mm_cmpestrm(text, 16, set, 9, _SIDD_CMP_EQUAL_ORDERED | _SIDD_UNIT_MASK));
    add_vector(_mm_cmpistrm(text, set, _SIDD_UWORD_OPS | _SIDD_CMP_EQUAL_EACH | _SIDD_NEGATIVE_POLARITY));
    add(_mm_cmpistrz(text, set, 0) | _mm_cmpistrc(text, set, 0) << 1 | _mm_cmpistro(text, set, 0) << 2);
    add(_mm_crc32_u64(_mm_cvtsi128_si64(a), _mm_cvtsi128_si64(b)));
    add(_mm_crc32_u8(7, _mm_cvtsi128_si32(a)));
}

static void integers(uint64_t a, uint64_t b)
{
    uint64_t low = a, high = b & 0xffff, result;
    uint8_t carry;
    add(__builtin_popcountll(a));
    __asm__("imul %2, %0\n\tsetc %1" : "+r"(low), "=q"(carry) : "r"(b) : "cc");
    add(low + carry);
    low = a;
    __asm__("div %2" : "+a"(low), "+d"(high) : "r"(b | 1ull << 63) : "cc");
    add(low ^ high);
    low = a;
    __asm__("idivl %2" : "+a"(low), "=d"(result) : "r"(((uint32_t)b & 0x7fffffff) | 0x40000000), "1"((uint64_t)0) : "cc");
    add((uint32_t)low ^ (uint32_t)result);
    __asm__("shld %%cl, %1, %0" : "+r"(a) : "r"(b), "c"(b & 63) : "cc");
    add(a);
    __asm__("stc\n\trcl $9, %0\n\tsetc %1" : "+r"(a), "=q"(carry) : : "cc");
    add(a + carry);
    __asm__("bt %2, %1\n\tsetc %0" : "=q"(carry) : "r"(a), "r"(b) : "cc");
    add(carry);
    __asm__("bsf %1, %0" : "=r"(result) : "r"(a | 1ull << 60) : "cc");
    add(result);
    __asm__("adc %1, %0" : "+r"(a) : "r"(b) : "cc");
    result = a;
    __asm__("xadd %0, %1" : "+r"(result), "+m"(b) : : "cc", "memory");
    add(result ^ b);
}

static void wide_exchange(void)
{
    static unsigned __int128 cell __attribute__((aligned(16)));
    uint64_t *half = (uint64_t *)&cell;
    for (int i = 0; i < 100; i++) {
        uint64_t low = half[0] + (i % 3 == 0), high = half[1];
        uint8_t equal;
        __asm__ volatile("lock cmpxchg16b %0\n\tsete %3"
                         : "+m"(cell), "+a"(low), "+d"(high), "=q"(equal)
                         : "b"(next_random(&state)), "c"(next_random(&state))
                         : "cc", "memory");
        add(low + equal);
        add(high);
    }
}

int program_vectors(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < 1000; i++)
        packed_integers(next_vector(), next_vector());
    report("packed integers");
    for (int i = 0; i < 1000; i++)
        ssse3_to_sse41(next_vector(), next_vector());
    report("ssse3 and sse4.1");
    for (int i = 0; i < 1000; i++)
        sse42(next_vector(), next_vector());
    report("sse4.2");
    for (int i = 0; i < 1000; i++) {
        uint64_t a = next_random(&state);
        integers(a, next_random(&state));
    }
    report("integers");
    wide_exchange();
    report("cmpxchg16b");
    return 0;
}
