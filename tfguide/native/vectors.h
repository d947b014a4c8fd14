// Vectors of as many numbers of 32 bits as one register holds. What each instruction set does in its own way is in one
// small header of isa/; everything else is written here, once.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

constexpr int LANES = 16;  // outputs of a packed matrix that lie side by side: a whole number of registers

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

inline float to_float(float x) { return x; }
inline float to_float(int8_t x) { return x; }
inline float to_float(uint8_t x) { return x; }
inline float to_float(Bfloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "isa/avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "isa/avx2.h"
#elif defined(__aarch64__)
#include "isa/neon.h"
#else
#include "isa/plain.h"
#endif

static_assert(LANES % WIDTH == 0, "a group of outputs is a whole number of registers");
constexpr int PARTS = LANES / WIDTH;  // registers for a group of outputs

inline Floats all(float x) { return Floats{} + x; }
inline Floats load(const float* from) { return read<Floats>(from); }

// Twice as many numbers as a register holds.
template <class T>
inline void load_two(const T* from, Floats& low, Floats& high) {
  low = load(from);
  high = load(from + WIDTH);
}

// Of bfloat16 the even ones apart from the odd ones: a word holds two numbers, the lower one is shifted up, the upper one
// is masked.
inline void load_two(const Bfloat16* from, Floats& even, Floats& odd) {
  const Words both = read<Words>(from);
  even = (Floats)(both << 16);
  odd = (Floats)(both & 0xffff0000u);
}

inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

// ---- rounding to the nearest, ties to even

inline void store(float* to, float x) { *to = x; }
inline void store(Bfloat16* to, float x) {  // NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline void store(float* to, Floats x) { write(to, x); }
#if !defined(HAS_STORE_BFLOAT16)
inline void store(Bfloat16* to, Floats x) {
  typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
  const Words bits = (Words)x, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  write(to, __builtin_convertvector(x != x ? Words{} + 0x7fc0 : rounded, Halves));
}
#endif

// Numbers of less than 2^22 in magnitude, to integers. Adding 1.5 * 2^23 rounds; the low bits then hold the integer.
inline Ints rounded(Floats x) { return (Ints)(x + 12582912.0f) - 0x4b400000; }

// ---- simple functions

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats magnitude(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }

inline int64_t sum(Ints x) {
  int64_t total = 0;
  for (int i = 0; i < WIDTH; ++i) total += x[i];
  return total;
}

// 0, 1, 2, ... in the lanes.
inline Floats counting() {
  Floats x;
  for (int i = 0; i < WIDTH; ++i) x[i] = float(i);
  return x;
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
