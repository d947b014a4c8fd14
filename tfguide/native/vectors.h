// Vectors of 16 numbers. The compiler turns each into the registers of the processor: one of AVX-512, two of AVX, four
// of NEON. Where the compiler does not find the best instruction by itself, the code names it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(32)));

// As many numbers of 32 bits as one register holds, for loops that would otherwise run out of registers.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int WIDTH = 8;
typedef float WideFloats __attribute__((vector_size(32)));
typedef int32_t WideInts __attribute__((vector_size(32)));
#else
constexpr int WIDTH = LANES;
typedef Floats WideFloats;
typedef Ints WideInts;
#endif

struct Bfloat16 { uint16_t bits; };
struct Float16 { uint16_t bits; };

template <class V, class T>
inline V read(const T* from) {
  V vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class V, class T>
inline void write(T* to, V vector) { std::memcpy(to, &vector, sizeof vector); }

inline Floats all(float x) { return Floats{} + x; }
inline Floats load(const float* from) { return read<Floats>(from); }
inline Floats load(const Bfloat16* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(read<__m256i>(from)), 16);
#else
  return (Floats)(__builtin_convertvector(read<Halves>(from), Words) << 16);
#endif
}

inline float to_float(float x) { return x; }
inline float to_float(Bfloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline float to_float(Float16 x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#elif defined(__aarch64__)
  __fp16 value;
  std::memcpy(&value, &x, 2);
  return value;
#else
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, digits = x.bits & 1023;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp(float(digits), -24);
  const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | digits << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

inline Floats load(const Float16* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(read<__m256i>(from));
#elif defined(__F16C__)
  const __m256 halves[2] = {_mm256_cvtph_ps(read<__m128i>(from)), _mm256_cvtph_ps(read<__m128i>(from + 8))};
  return read<Floats>(halves);
#else
  Floats vector;
  for (int i = 0; i < LANES; ++i) vector[i] = to_float(from[i]);
  return vector;
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)
inline WideFloats load_wide(const Float16* from) { return (WideFloats)_mm256_cvtph_ps(read<__m128i>(from)); }
#else
inline WideFloats load_wide(const Float16* from) { return load(from); }
#endif

// 32 numbers. Reading half a cache line at a time is slower than reading a whole one.
template <class T>
inline void load_two(const T* from, Floats& low, Floats& high) {
  low = load(from);
  high = load(from + LANES);
}
#if defined(__AVX512F__)
inline void load_two(const Float16* from, Floats& low, Floats& high) {
  const __m512i both = read<__m512i>(from);
  low = (Floats)_mm512_cvtph_ps(_mm512_castsi512_si256(both));
  high = (Floats)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1));
}
#endif

inline void store(float* to, float x) { *to = x; }
inline void store(Bfloat16* to, float x) {  // to the nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void store(Float16* to, float x) {
#if defined(__F16C__)
  to->bits = _cvtss_sh(x, 0);
#else
  _Float16 value = _Float16(x);
  std::memcpy(to, &value, 2);
#endif
}

inline void store(float* to, Floats x) { write(to, x); }
inline void store(Bfloat16* to, Floats x) {
#if defined(__AVX512BF16__)
  write(to, _mm512_cvtneps_pbh((__m512)x));  // the same, except that numbers below 2^-126 become 0
#else
  const Words bits = (Words)x, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  write(to, __builtin_convertvector(x != x ? Words{} + 0x7fc0 : rounded, Halves));
#endif
}
inline void store(Float16* to, Floats x) {
#if defined(__AVX512F__)
  write(to, _mm512_cvtps_ph((__m512)x, 0));
#else
  for (int i = 0; i < LANES; ++i) store(to + i, x[i]);
#endif
}

inline float sum(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#else
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += x[i];
  return total;
#endif
}

// The sums of 16 vectors, one in each lane.
inline Floats sums(const Floats* x) {
#if defined(__AVX512F__)
  __m512 four[4];
  for (int i = 0; i < 4; ++i) {  // of four vectors: each quarter holds their sums over that quarter
    const __m512 *v = reinterpret_cast<const __m512*>(x + 4 * i);
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512d c = (__m512d)a, d = (__m512d)b;
    four[i] = _mm512_add_ps((__m512)_mm512_unpacklo_pd(c, d), (__m512)_mm512_unpackhi_pd(c, d));
  }
  const auto quarters = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return (Floats)quarters(quarters(four[0], four[1]), quarters(four[2], four[3]));
#else
  Floats total;
  for (int i = 0; i < LANES; ++i) total[i] = sum(x[i]);
  return total;
#endif
}

// The largest number of a vector.
inline float maximum(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)x);
#else
  float most = x[0];
  for (int i = 1; i < LANES; ++i) most = x[i] > most ? x[i] : most;
  return most;
#endif
}

// The largest magnitude of both.
inline float largest(Floats a, Floats b) {
  a = (Floats)((Ints)a & 0x7fffffff);
  b = (Floats)((Ints)b & 0x7fffffff);
  return maximum(a > b ? a : b);
}

// e to the x, within 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cody & Waite).
inline Floats exponential(Floats given) {
  Floats x = given;
  const Floats low = all(-87.3f), high = all(88.3f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Floats shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which the low bits then hold
  const Floats shifted = x * 1.44269504f + shift;
  const Floats n = shifted - shift;
  const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Floats power = (Floats)((Ints)p + ((Ints)shifted << 23));
  return given != given ? given : power;  // NaN in, NaN out
}

// acc + four products of unsigned with signed bytes in every lane.
inline WideInts dot4(WideInts acc, WideInts unsigned_bytes, WideInts signed_bytes) {
#if defined(__AVX512VNNI__)
  return (WideInts)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)unsigned_bytes, (__m512i)signed_bytes);
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
  return (WideInts)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)unsigned_bytes, (__m256i)signed_bytes);
#elif defined(__AVX2__) && !defined(__AVX512F__)
  // Bytes as words of 16 bits, the even ones and the odd ones: sums of byte products would not fit into such words.
  const __m256i u = (__m256i)unsigned_bytes, s = (__m256i)signed_bytes;
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
  return acc + (WideInts)even + (WideInts)odd;
#else
  typedef uint32_t WideWords __attribute__((vector_size(sizeof(WideInts))));
  for (int shift = 0; shift < 32; shift += 8)
    acc += (WideInts)((WideWords)unsigned_bytes >> shift & 255) * (signed_bytes << (24 - shift) >> 24);
  return acc;
#endif
}
