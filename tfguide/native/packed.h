// Products with weights of 8 and 4 bits, packed: 16 outputs side by side, one in each lane.
#pragma once
#include "inputs.h"

// The outputs [o, o + 16) for R rows of x.
template <int R>
[[gnu::noinline]] void int8_of(const Linear& m, int64_t o, const float* x, int64_t ldx, Floats* y) {
  const int64_t in = padded(m.in, 4);
  const int8_t* w = static_cast<const int8_t*>(m.weight) + o * in;
  Floats acc[R][4] = {};
  for (int64_t k = 0; k < in; k += 4) {
    fetch<R>(w + k * LANES);
    const Ints four = read<Ints>(w + k * LANES);
    for (int j = 0; j < 4; ++j) {
      const Floats weight = __builtin_convertvector(four << (24 - 8 * j) >> 24, Floats);
      for (int r = 0; r < R; ++r) acc[r][j] += weight * (k + j < m.in ? x[r * ldx + k + j] : 0.0f);
    }
  }
  const Floats scale = load(static_cast<const float*>(m.scale) + o);
  for (int r = 0; r < R; ++r) y[r] = (acc[r][0] + acc[r][1] + acc[r][2] + acc[r][3]) * scale;
}

template <int R>
[[gnu::noinline]] void int4_of(const Linear& m, int64_t o, const float* x, int64_t ldx, Floats* y) {
  const uint8_t* w = static_cast<const uint8_t*>(m.weight) + o * m.in / 2;
  const Float16* scale = static_cast<const Float16*>(m.scale) + o * (m.in / m.group);
  for (int r = 0; r < R; ++r) y[r] = Floats{};
  for (int64_t g = 0; g < m.in; g += m.group, scale += LANES) {
    Floats acc[R][2] = {};
    float total[R] = {};
    for (int64_t k = g; k < g + m.group; k += 8) {
      fetch<LONG>(w + k * LANES / 2);
      const Words eight = read<Words>(w + k * LANES / 2);
      for (int j = 0; j < 8; ++j) {
        const Floats weight = __builtin_convertvector((Ints)(eight >> (8 * (j & 3) + 4 * (j >> 2)) & 15), Floats);
        for (int r = 0; r < R; ++r) {
          const float value = x[r * ldx + k + j];
          acc[r][j & 1] += weight * value;
          total[r] += value;
        }
      }
    }
    for (int r = 0; r < R; ++r) y[r] += (acc[r][0] + acc[r][1] - 8.0f * total[r]) * load(scale);
  }
}
