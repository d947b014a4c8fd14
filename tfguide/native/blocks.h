// From the rows of a GGUF file to packed matrices: the same levels and scales, 16 outputs side by side, so that nothing is
// rounded again. Source of the blocks: ggml-common.h and ggml-quants.c of ggml.
#pragma once
#include "unpack.h"

// Where a block of one output is written, beside those of 15 others.
struct Packed {
  uint8_t *levels, *scale, *unit;  // of the blocks of all 16
  int64_t lane;

  // Four bytes: four levels of 8 bits, or eight of 4 bits.
  void put(int64_t word, uint32_t bytes) const { std::memcpy(levels + (word * LANES + lane) * 4, &bytes, 4); }
  void put_byte(int64_t k, int level) const { levels[(k / 4 * LANES + lane) * 4 + k % 4] = uint8_t(level); }
  // The i-th of the block's scales, numbers of so many bytes, and of its units, float16.
  void put_scale(int64_t i, const void* from, int64_t size) const {
    std::memcpy(scale + (i * LANES + lane) * size, from, size);
  }
  void put_unit(int64_t i, const void* from) const { std::memcpy(unit + (i * LANES + lane) * 2, from, 2); }
};

inline uint32_t word_of(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, 4);
  return word;
}

constexpr uint32_t LOW = 0x0f0f0f0f;  // the lower half of each byte

// Inputs that follow each other are in the lower halves of `bytes` bytes, the next ones in the upper halves.
inline void put_halves(const Packed& to, int64_t word, const uint8_t* from, int64_t bytes) {
  for (int shift = 0; shift <= 4; shift += 4)
    for (int64_t i = 0; i < bytes; i += 8)
      to.put(word++, (word_of(from + i) >> shift & LOW) | (word_of(from + i + 4) >> shift & LOW) << 4);
}

// The units of a block of Q4_K or Q5_K, and the step and the minimum of each of its 8 groups, in 6 bits each.
inline void put_scales_of_groups(const Packed& to, const uint8_t* block) {
  for (int i = 0; i < 2; ++i) to.put_unit(i, block + 2 * i);
  const uint8_t* from = block + 4;
  for (int j = 0; j < 8; ++j) {
    const uint8_t step = j < 4 ? from[j] & 63 : (from[j + 4] & 15) | (from[j - 4] >> 6) << 4;
    const uint8_t minimum = j < 4 ? from[j + 4] & 63 : from[j + 4] >> 4 | (from[j] >> 6) << 4;
    to.put_scale(2 * j, &step, 1);
    to.put_scale(2 * j + 1, &minimum, 1);
  }
}

// Each type: the inputs and the bytes of a block, the bytes of its scales and units for one output, and how it is taken.
template <int TYPE>
struct Block;

template <>
struct Block<Q4_0> {
  static constexpr int64_t INPUTS = 32, BYTES = 18, BITS = 4, SCALE = 2, UNIT = 0;
  static void take(const uint8_t* from, const Packed& to) {
    to.put_scale(0, from, 2);
    put_halves(to, 0, from + 2, 16);
  }
};

template <>
struct Block<Q4_1> {
  static constexpr int64_t INPUTS = 32, BYTES = 20, BITS = 4, SCALE = 4, UNIT = 0;
  static void take(const uint8_t* from, const Packed& to) {
    for (int i = 0; i < 2; ++i) to.put_scale(i, from + 2 * i, 2);
    put_halves(to, 0, from + 4, 16);
  }
};

template <>
struct Block<Q5_0> {
  static constexpr int64_t INPUTS = 32, BYTES = 22, BITS = 8, SCALE = 2, UNIT = 0;
  static void take(const uint8_t* from, const Packed& to) {
    to.put_scale(0, from, 2);
    const uint32_t fifth = word_of(from + 2);
    for (int k = 0; k < 32; ++k)
      to.put_byte(k, int((from[6 + k % 16] >> k / 16 * 4 & 15) | (fifth >> k & 1) << 4) - 16);
  }
};

template <>
struct Block<Q8_0> {
  static constexpr int64_t INPUTS = 32, BYTES = 34, BITS = 8, SCALE = 2, UNIT = 0;
  static void take(const uint8_t* from, const Packed& to) {
    to.put_scale(0, from, 2);
    for (int i = 0; i < 8; ++i) to.put(i, word_of(from + 2 + 4 * i));
  }
};

template <>
struct Block<Q4_K> {
  static constexpr int64_t INPUTS = 256, BYTES = 144, BITS = 4, SCALE = 16, UNIT = 4;
  static void take(const uint8_t* from, const Packed& to) {
    put_scales_of_groups(to, from);
    for (int pair = 0; pair < 4; ++pair) put_halves(to, pair * 8, from + 16 + pair * 32, 32);
  }
};

template <>
struct Block<Q5_K> {
  static constexpr int64_t INPUTS = 256, BYTES = 176, BITS = 8, SCALE = 16, UNIT = 4;
  static void take(const uint8_t* from, const Packed& to) {
    put_scales_of_groups(to, from);
    const uint8_t *fifth = from + 16, *rest = fifth + 32;
    for (int k = 0; k < 256; ++k) {
      const int group = k / 32, i = k % 32;
      to.put_byte(k, (rest[group / 2 * 32 + i] >> group % 2 * 4 & 15) | (fifth[i] >> group & 1) << 4);
    }
  }
};

template <>
struct Block<Q6_K> {
  static constexpr int64_t INPUTS = 256, BYTES = 210, BITS = 8, SCALE = 16, UNIT = 2;
  static void take(const uint8_t* from, const Packed& to) {
    for (int i = 0; i < 16; ++i) to.put_scale(i, from + 192 + i, 1);
    to.put_unit(0, from + 208);
    for (int k = 0; k < 256; ++k) {
      const int half = k / 128, quarter = k / 32 % 4, i = k % 32;
      const uint8_t *low = from + half * 64 + quarter % 2 * 32, *high = from + 128 + half * 32;
      to.put_byte(k, ((low[i] >> quarter / 2 * 4 & 15) | (high[i] >> 2 * quarter & 3) << 4) - 32);
    }
  }
};

// Outputs [part.first, part.last) of a matrix, from the rows of a file, (out, bytes).
template <int TYPE>
[[gnu::noinline]] void repack_of(const Linear& to, const uint8_t* rows, Part part) {
  using B = Block<TYPE>;
  const int64_t blocks = to.in / B::INPUTS, levels = B::INPUTS * B::BITS / 8;
  const auto place = [&](const void* memory, int64_t o, int64_t b, int64_t bytes) {
    return static_cast<uint8_t*>(const_cast<void*>(memory)) + (o / LANES * blocks + b) * LANES * bytes;
  };
  for (int64_t o = part.first; o < part.last; ++o)
    for (int64_t b = 0; b < blocks; ++b) {
      B::take(rows + (o * blocks + b) * B::BYTES,
              Packed{place(to.weight, o, b, levels), place(to.scale, o, b, B::SCALE), place(to.unit, o, b, B::UNIT),
                     o % LANES});
    }
}

inline void repack(const Linear& to, int type, const uint8_t* rows, Part part) {
  switch (type) {
    case Q4_0: return repack_of<Q4_0>(to, rows, part);
    case Q4_1: return repack_of<Q4_1>(to, rows, part);
    case Q5_0: return repack_of<Q5_0>(to, rows, part);
    case Q8_0: return repack_of<Q8_0>(to, rows, part);
    case Q4_K: return repack_of<Q4_K>(to, rows, part);
    case Q5_K: return repack_of<Q5_K>(to, rows, part);
    default: return repack_of<Q6_K>(to, rows, part);
  }
}
