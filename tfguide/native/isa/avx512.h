// AVX-512 with its byte, word and 256-bit parts (x86-64-v4): 16 numbers in a register, 32 registers. Uses VNNI and BF16
// where the processor has them.
#pragma once
#include <immintrin.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
constexpr const char* ISA = "AVX-512 with VNNI and BF16";
#elif defined(__AVX512VNNI__)
constexpr const char* ISA = "AVX-512 with VNNI";
#else
constexpr const char* ISA = "AVX-512";
#endif

constexpr int WIDTH = 16, REGISTERS = 32;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));

// ---- conversion

inline Floats load(const Bfloat16* from) {
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(read<__m256i>(from)), 16);
}
inline Floats load(const Float16* from) { return (Floats)_mm512_cvtph_ps(read<__m256i>(from)); }
inline Floats load(const int8_t* from) { return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(read<__m128i>(from))); }
inline Floats load(const uint8_t* from) { return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(read<__m128i>(from))); }

// 32 numbers. Reading half a cache line at a time is slower than reading a whole one.
inline void load_two(const Float16* from, Floats& low, Floats& high) {
  const __m512i both = read<__m512i>(from);
  low = (Floats)_mm512_cvtph_ps(_mm512_castsi512_si256(both));
  high = (Floats)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1));
}

inline float to_float(Float16 x) { return _cvtsh_ss(x.bits); }
inline void store(Float16* to, float x) { to->bits = _cvtss_sh(x, 0); }
inline void store(Float16* to, Floats x) { write(to, _mm512_cvtps_ph((__m512)x, 0)); }
inline void store(int8_t* to, Ints x) { write(to, _mm512_cvtepi32_epi8((__m512i)x)); }

#if defined(__AVX512BF16__)
inline void store(Bfloat16* to, Floats x) {  // as in vectors.h, except that numbers below 2^-126 become 0
  write(to, _mm512_cvtneps_pbh((__m512)x));
}
#define HAS_STORE_BFLOAT16

// acc + the two products of bfloat16 numbers in every lane.
#define HAS_DOT_BFLOAT16
inline Floats dot_pairs(Floats acc, Words a, Words b) {
  return (Floats)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
}
// The numbers of two rows of 32 as pairs, one of each row; and sums over such pairs in the order of the numbers.
inline void make_pairs(Words a, Words b, Words& first, Words& second) {
  first = (Words)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b);
  second = (Words)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
}
inline void in_order(Floats& first, Floats& second) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512 a = (__m512)first, b = (__m512)second;
  first = (Floats)_mm512_permutex2var_ps(a, low, b);
  second = (Floats)_mm512_permutex2var_ps(a, _mm512_add_epi32(low, _mm512_set1_epi32(8)), b);
}
#endif

// 32 numbers, the even ones apart from the odd ones.
inline void even_odd(Floats a, Floats b, Floats& even, Floats& odd) {
  const __m512i first = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  even = (Floats)_mm512_permutex2var_ps((__m512)a, first, (__m512)b);
  odd = (Floats)_mm512_permutex2var_ps((__m512)a, _mm512_or_si512(first, _mm512_set1_epi32(1)), (__m512)b);
}

// The compiler would rather load a number again for each instruction that needs it.
inline void keep_in_register(Floats& x) { asm("" : "+v"(x)); }

// ---- sums

inline float sum(Floats x) { return _mm512_reduce_add_ps((__m512)x); }
inline float maximum(Floats x) { return _mm512_reduce_max_ps((__m512)x); }

// Of four vectors: each quarter holds their four sums over that quarter.
inline Floats sum4(const Floats* x) {
  const __m512* v = reinterpret_cast<const __m512*>(x);
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512d c = (__m512d)a, d = (__m512d)b;
  return (Floats)_mm512_add_ps((__m512)_mm512_unpacklo_pd(c, d), (__m512)_mm512_unpackhi_pd(c, d));
}

// The sums of 16 vectors, one in each lane, from the four results of sum4.
inline Floats join_sums(const Floats* four) {
  const auto quarters = [](Floats a, Floats b) {
    return (Floats)_mm512_add_ps(_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0x88),
                                 _mm512_shuffle_f32x4((__m512)a, (__m512)b, 0xdd));
  };
  return quarters(quarters(four[0], four[1]), quarters(four[2], four[3]));
}

// The four sums of sum4, as numbers in memory.
inline void write_sum4(float* to, Floats four) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)four), _mm512_extractf32x8_ps((__m512)four, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

// ---- products of bytes, added up in words of 32 bits

inline Ints repeat4(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
  return (Ints)_mm512_set1_epi32(word);  // becomes part of the instruction that multiplies
}

#if defined(__AVX512VNNI__)
// One side of the instruction is unsigned, so 128 is added to the weights.
constexpr int WEIGHT_OFFSET = 128;
struct Int8s { Ints plus_offset; };
inline Int8s int8s(Ints weights) { return {weights ^ int32_t(0x80808080)}; }
inline Ints dot_unsigned(Ints acc, Ints weights, Ints x) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)weights, (__m512i)x);
}
inline Ints dot(Ints acc, Int8s weights, Ints x) { return dot_unsigned(acc, weights.plus_offset, x); }
inline Ints dot_int4(Ints acc, Ints low, Ints high, Ints first, Ints second) {
  return dot_unsigned(dot_unsigned(acc, low, first), high, second);
}
#else
// Sums of two products fit into 16 bits where one side is a magnitude: 2 * 128 * 127 < 2^15. Its sign goes to x.
constexpr int WEIGHT_OFFSET = 0;
struct Int8s { Ints value, magnitude; };
inline Int8s int8s(Ints weights) { return {weights, (Ints)_mm512_abs_epi8((__m512i)weights)}; }
inline __m512i pairs(Ints weights, __m512i x) { return _mm512_maddubs_epi16((__m512i)weights, x); }
inline Ints add_pairs(Ints acc, __m512i sums) { return acc + (Ints)_mm512_madd_epi16(sums, _mm512_set1_epi16(1)); }
inline Ints dot(Ints acc, Int8s weights, Ints x) {
  const __m512i signed_x = _mm512_mask_sub_epi8((__m512i)x, _mm512_movepi8_mask((__m512i)weights.value),
                                                _mm512_setzero_si512(), (__m512i)x);
  return add_pairs(acc, pairs(weights.magnitude, signed_x));
}
inline Ints dot_int4(Ints acc, Ints low, Ints high, Ints first, Ints second) {
  return add_pairs(acc, _mm512_add_epi16(pairs(low, (__m512i)first), pairs(high, (__m512i)second)));
}
#endif
