// AVX2 with FMA and F16C (x86-64-v3): 8 numbers in a register, 16 registers. Uses AVX-VNNI where the processor has it.
#pragma once
#include <immintrin.h>

#if defined(__AVXVNNI__)
constexpr const char* ISA = "AVX2 with VNNI";
#else
constexpr const char* ISA = "AVX2";
#endif

constexpr int WIDTH = 8, REGISTERS = 16;
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));

// ---- conversion

inline Floats load(const Bfloat16* from) {
  return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(read<__m128i>(from)), 16);
}
inline Floats load(const Float16* from) { return (Floats)_mm256_cvtph_ps(read<__m128i>(from)); }
inline Floats load(const int8_t* from) {
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
}
inline Floats load(const uint8_t* from) {
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from)));
}

inline float to_float(Float16 x) { return _cvtsh_ss(x.bits); }
inline void store(Float16* to, float x) { to->bits = _cvtss_sh(x, 0); }
inline void store(Float16* to, Floats x) { write(to, _mm256_cvtps_ph((__m256)x, 0)); }
inline void store(int8_t* to, Ints x) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
  _mm_storel_epi64((__m128i*)to, _mm_packs_epi16(words, words));
}

// 16 numbers, the even ones apart from the odd ones.
inline void even_odd(Floats a, Floats b, Floats& even, Floats& odd) {
  const __m256 low = _mm256_permute2f128_ps((__m256)a, (__m256)b, 0x20);
  const __m256 high = _mm256_permute2f128_ps((__m256)a, (__m256)b, 0x31);
  even = (Floats)_mm256_shuffle_ps(low, high, 0x88);
  odd = (Floats)_mm256_shuffle_ps(low, high, 0xdd);
}

// The compiler would rather load a number again for each instruction that needs it.
inline void keep_in_register(Floats& x) { asm("" : "+x"(x)); }

// ---- sums

inline float sum(Floats x) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
inline float maximum(Floats x) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  const __m128 quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
}

// Of four vectors: each half holds their four sums over that half.
inline Floats sum4(const Floats* x) {
  const __m256* v = reinterpret_cast<const __m256*>(x);
  return (Floats)_mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
}

// The sums of 8 vectors, one in each lane, from the two results of sum4.
inline Floats join_sums(const Floats* four) {
  const __m256 a = (__m256)four[0], b = (__m256)four[1];
  return (Floats)_mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// The four sums of sum4, as numbers in memory.
inline void write_sum4(float* to, Floats four) {
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128((__m256)four), _mm256_extractf128_ps((__m256)four, 1)));
}

// ---- products of bytes, added up in words of 32 bits

inline Ints repeat4(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
  return (Ints)_mm256_set1_epi32(word);
}

#if defined(__AVXVNNI__)
// One side of the instruction is unsigned, so 128 is added to the weights.
constexpr int WEIGHT_OFFSET = 128;
struct Int8s { Ints plus_offset; };
inline Int8s int8s(Ints weights) { return {weights ^ int32_t(0x80808080)}; }
inline Ints dot_unsigned(Ints acc, Ints weights, Ints x) {
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)weights, (__m256i)x);
}
inline Ints dot(Ints acc, Int8s weights, Ints x) { return dot_unsigned(acc, weights.plus_offset, x); }
inline Ints dot_int4(Ints acc, Ints low, Ints high, Ints first, Ints second) {
  return dot_unsigned(dot_unsigned(acc, low, first), high, second);
}
#else
// Sums of two products fit into 16 bits where one side is a magnitude: 2 * 128 * 127 < 2^15. Its sign goes to x.
constexpr int WEIGHT_OFFSET = 0;
struct Int8s { Ints value, magnitude; };
inline Int8s int8s(Ints weights) { return {weights, (Ints)_mm256_abs_epi8((__m256i)weights)}; }
inline __m256i pairs(Ints weights, __m256i x) { return _mm256_maddubs_epi16((__m256i)weights, x); }
inline Ints add_pairs(Ints acc, __m256i sums) { return acc + (Ints)_mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
inline Ints dot(Ints acc, Int8s weights, Ints x) {
  return add_pairs(acc, pairs(weights.magnitude, _mm256_sign_epi8((__m256i)x, (__m256i)weights.value)));
}
inline Ints dot_int4(Ints acc, Ints low, Ints high, Ints first, Ints second) {
  return add_pairs(acc, _mm256_add_epi16(pairs(low, (__m256i)first), pairs(high, (__m256i)second)));
}
#endif
