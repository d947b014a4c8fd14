// A packed matrix as the numbers that it stands for.
#pragma once
#include "inputs.h"
#include "types.h"

// The numbers of 16 outputs and STEP inputs of a packed matrix: 4 of INT8, without the scales, or 8 of INT4, with.
template <int STEP>
inline void packed_numbers(const Linear& m, int64_t in, int64_t o, int64_t k, Floats* rows) {
  if (STEP == 4) {
    const Ints four = read<Ints>(static_cast<const int8_t*>(m.weight) + o * in + k * LANES);
    for (int j = 0; j < STEP; ++j) rows[j] = __builtin_convertvector(four << (24 - 8 * j) >> 24, Floats);
  } else {
    const Words eight = read<Words>(static_cast<const uint8_t*>(m.weight) + (o * in + k * LANES) / 2);
    const Floats scale = load(static_cast<const Float16*>(m.scale) + o * (in / m.group) + k / m.group * LANES);
    for (int j = 0; j < STEP; ++j) {
      const Ints value = (Ints)(eight >> (8 * (j & 3) + 4 * (j >> 2)) & 15) - 8;
      rows[j] = __builtin_convertvector(value, Floats) * scale;
    }
  }
}

template <class T, int STEP>
[[gnu::noinline]] void unpack_of(const Linear& m, T* to, Part part) {
  const int64_t in = padded(m.in, STEP);
  for (int64_t o = part.first; o < part.last; o += 2 * LANES) {  // 32 numbers of bfloat16 fill a cache line
    const int64_t n = std::min<int64_t>(2 * LANES, std::min(part.last, m.out) - o);
    for (int64_t k = 0; k < in; k += STEP) {
      Floats first[STEP], second[STEP];
      T* at = to + k * m.out + o;
      packed_numbers<STEP>(m, in, o, k, first);
      if (n > LANES) packed_numbers<STEP>(m, in, o + LANES, k, second);
      if (n == 2 * LANES && k + STEP <= m.in) {
        for (int j = 0; j < STEP; ++j, at += m.out) {
          store(at, first[j]);
          store(at + LANES, second[j]);
        }
        continue;
      }
      for (int64_t j = 0; j < std::min<int64_t>(STEP, m.in - k); ++j, at += m.out) {
        store_row((const float*)&first[j], std::min<int64_t>(n, LANES), at);
        store_row((const float*)&second[j], n - LANES, at + LANES);
      }
    }
  }
}

// A packed matrix as numbers of type T, (in, out): INT8 without its scales, which are one for each output; INT4 with.
template <class T>
inline void unpack(const Linear& m, T* to, Part part) {
  if (m.format == INT8 || m.format == INT8_A8) return unpack_of<T, 4>(m, to, part);
  unpack_of<T, 8>(m, to, part);
}
