// NEON (every 64-bit ARM): 4 numbers in a register, 32 registers. Uses the dot product of bytes where the processor has
// it.
#pragma once
#include <arm_neon.h>

#if defined(__ARM_FEATURE_DOTPROD)
constexpr const char* ISA = "NEON with dot products";
#else
constexpr const char* ISA = "NEON";
#endif

constexpr int WIDTH = 4, REGISTERS = 32;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));

// ---- conversion

inline Floats load(const Bfloat16* from) {
  return (Floats)vshlq_n_u32(vmovl_u16(read<uint16x4_t>(from)), 16);
}
inline Floats load(const Float16* from) { return (Floats)vcvt_f32_f16(vreinterpret_f16_u16(read<uint16x4_t>(from))); }
inline Floats load(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
  return (Floats)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word))))));
}
inline Floats load(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, 4);
  return (Floats)vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word))))));
}
inline void load_two(const Float16* from, Floats& low, Floats& high) {
  const float16x8_t both = vreinterpretq_f16_u16(read<uint16x8_t>(from));
  low = (Floats)vcvt_f32_f16(vget_low_f16(both));
  high = (Floats)vcvt_high_f32_f16(both);
}

inline float to_float(Float16 x) {
  __fp16 value;
  std::memcpy(&value, &x, 2);
  return value;
}
inline void store(Float16* to, float x) {
  const __fp16 value = x;
  std::memcpy(to, &value, 2);
}
inline void store(Float16* to, Floats x) { write(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x))); }
inline void store(int8_t* to, Ints x) {
  const int16x4_t words = vmovn_s32((int32x4_t)x);
  const int32x2_t bytes = vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words)));
  const int32_t word = vget_lane_s32(bytes, 0);
  std::memcpy(to, &word, 4);
}

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
// acc + the two products of bfloat16 numbers in every lane.
#define HAS_DOT_BFLOAT16
inline Floats dot_pairs(Floats acc, Words a, Words b) {
  return (Floats)vbfdotq_f32((float32x4_t)acc, (bfloat16x8_t)a, (bfloat16x8_t)b);
}
// The numbers of two rows of 8 as pairs, one of each row; and sums over such pairs in the order of the numbers.
inline void make_pairs(Words a, Words b, Words& first, Words& second) {
  first = (Words)vzip1q_u16((uint16x8_t)a, (uint16x8_t)b);
  second = (Words)vzip2q_u16((uint16x8_t)a, (uint16x8_t)b);
}
inline void in_order(Floats&, Floats&) {}
#endif

// 8 numbers, the even ones apart from the odd ones.
inline void even_odd(Floats a, Floats b, Floats& even, Floats& odd) {
  even = (Floats)vuzp1q_f32((float32x4_t)a, (float32x4_t)b);
  odd = (Floats)vuzp2q_f32((float32x4_t)a, (float32x4_t)b);
}

// The compiler would rather load a number again for each instruction that needs it.
inline void keep_in_register(Floats& x) { asm("" : "+w"(x)); }

// ---- sums

inline float sum(Floats x) { return vaddvq_f32((float32x4_t)x); }
inline float maximum(Floats x) { return vmaxvq_f32((float32x4_t)x); }

// The sums of 4 vectors, one in each lane.
inline Floats sum4(const Floats* x) {
  return (Floats)vpaddq_f32(vpaddq_f32((float32x4_t)x[0], (float32x4_t)x[1]),
                            vpaddq_f32((float32x4_t)x[2], (float32x4_t)x[3]));
}
inline Floats join_sums(const Floats* four) { return four[0]; }

// The four sums of sum4, as numbers in memory.
inline void write_sum4(float* to, Floats four) { write(to, four); }

// ---- products of bytes, added up in words of 32 bits

inline Ints repeat4(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
  return (Ints)vdupq_n_s32(word);
}

constexpr int WEIGHT_OFFSET = 0;  // both sides are signed
struct Int8s { Ints value; };
inline Int8s int8s(Ints weights) { return {weights}; }
#if defined(__ARM_FEATURE_DOTPROD)
inline Ints dot(Ints acc, Int8s weights, Ints x) {
  return (Ints)vdotq_s32((int32x4_t)acc, (int8x16_t)weights.value, (int8x16_t)x);
}
#else
inline Ints dot(Ints acc, Int8s weights, Ints x) {  // sums of two products fit into 16 bits: 2 * 128 * 127 < 2^15
  const int8x16_t a = (int8x16_t)weights.value, b = (int8x16_t)x;
  const int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b));
  return (Ints)vpadalq_s16((int32x4_t)acc, pairs);
}
#endif
inline Ints dot_int4(Ints acc, Ints low, Ints high, Ints first, Ints second) {
  return dot(dot(acc, {low}, first), {high}, second);
}
