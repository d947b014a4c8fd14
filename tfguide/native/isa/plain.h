// No instruction by its name: right on every processor, fast on none. The compiler makes of vectors of 4 numbers what
// it can.
#pragma once

constexpr const char* ISA = "no vector instructions by name";

constexpr int WIDTH = 4, REGISTERS = 16;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));

// ---- conversion

inline float to_float(Float16 x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, digits = x.bits & 1023;
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp(float(digits), -24);
  const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | digits << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline void store(Float16* to, float x) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) {  // NaN
    to->bits = uint16_t(sign | 0x7e00);
  } else if (size >= 0x477ff000) {  // 65520 and more round to infinity
    to->bits = uint16_t(sign | 0x7c00);
  } else if (size < 0x38800000) {  // below 2^-14: a multiple of 2^-24; nearbyint rounds ties to even
    to->bits = uint16_t(sign | uint32_t(std::nearbyint(std::ldexp(std::fabs(x), 24))));
  } else {
    const uint32_t rounded = size + 0xfff + (size >> 13 & 1);
    to->bits = uint16_t(sign | (rounded - 0x38000000) >> 13);
  }
}

inline Floats load(const Bfloat16* from) {
  Words words;
  for (int i = 0; i < WIDTH; ++i) words[i] = uint32_t(from[i].bits) << 16;
  return (Floats)words;
}
template <class T>
inline Floats load_each(const T* from) {
  Floats vector;
  for (int i = 0; i < WIDTH; ++i) vector[i] = to_float(from[i]);
  return vector;
}
inline Floats load(const Float16* from) { return load_each(from); }
inline Floats load(const int8_t* from) { return load_each(from); }
inline Floats load(const uint8_t* from) { return load_each(from); }
inline void store(Float16* to, Floats x) {
  for (int i = 0; i < WIDTH; ++i) store(to + i, x[i]);
}
inline void store(int8_t* to, Ints x) {
  for (int i = 0; i < WIDTH; ++i) to[i] = int8_t(x[i]);
}

// 8 numbers, the even ones apart from the odd ones.
inline void even_odd(Floats a, Floats b, Floats& even, Floats& odd) {
  even = Floats{a[0], a[2], b[0], b[2]};
  odd = Floats{a[1], a[3], b[1], b[3]};
}

inline void keep_in_register(Floats&) {}

// ---- sums

inline float sum(Floats x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline float maximum(Floats x) { return std::fmax(std::fmax(x[0], x[2]), std::fmax(x[1], x[3])); }

// The sums of 4 vectors, one in each lane.
inline Floats sum4(const Floats* x) { return Floats{sum(x[0]), sum(x[1]), sum(x[2]), sum(x[3])}; }
inline Floats join_sums(const Floats* four) { return four[0]; }

// The four sums of sum4, as numbers in memory.
inline void write_sum4(float* to, Floats four) { write(to, four); }

// ---- products of bytes, added up in words of 32 bits

inline Ints repeat4(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
  return Ints{} + word;
}

constexpr int WEIGHT_OFFSET = 0;  // both sides are signed
struct Int8s { Ints value; };
inline Int8s int8s(Ints weights) { return {weights}; }
inline Ints dot(Ints acc, Int8s weights, Ints x) {
  for (int shift = 24; shift >= 0; shift -= 8)
    acc += ((Ints)((Words)weights.value << shift) >> 24) * ((Ints)((Words)x << shift) >> 24);
  return acc;
}
inline Ints dot_int4(Ints acc, Ints low, Ints high, Ints first, Ints second) {
  return dot(dot(acc, {low}, first), {high}, second);
}
