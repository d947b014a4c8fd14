// Products with weights of 8 and 4 bits, packed: 16 outputs side by side, one in each lane.
#pragma once
#include "scaling.h"

// One register of outputs, from `o` on, for R rows of x.
template <int R>
[[gnu::noinline]] void int8_of(const Linear& m, int64_t o, const float* tile, Floats* y) {
  constexpr int U = R == 1 ? 4 : R == 2 ? 2 : 1;  // independent sums, to hide the latency of an addition
  const int64_t in = padded(m.in, 4);
  const int8_t* w = static_cast<const int8_t*>(m.weight) + o / LANES * LANES * in + o % LANES * 4;
  Floats acc[R][U] = {};
  const auto step = [&](int64_t k, int n) {
    const Ints four = read<Ints>(w + k * LANES);
    for (int j = 0; j < n; ++j) {
      const Floats weight = to_floats(four << (24 - 8 * j) >> 24);
      for (int r = 0; r < R; ++r) acc[r][j % U] += weight * tile[(k + j) * R + r];
    }
  };
  int64_t k = 0;
  for (; k + 4 <= m.in; k += 4) {
    fetch<R>(w + k * LANES);
    step(k, 4);
  }
  if (k < m.in) step(k, int(m.in - k));
  const Floats scale = load(static_cast<const float*>(m.scale) + o);
  for (int r = 0; r < R; ++r) {
    for (int u = 1; u < U; ++u) acc[r][0] += acc[r][u];
    y[r] = acc[r][0] * scale;
  }
}

template <int R>
[[gnu::noinline]] void int4_of(const Linear& m, int64_t o, const float* tile, Floats* y) {
  constexpr int U = R <= 2 ? 4 / R : 1;
  const int64_t group = o / LANES * LANES, lane = o % LANES;
  const uint8_t* w = static_cast<const uint8_t*>(m.weight) + group * m.in / 2 + lane * 4;
  const Scales scales(m, group);
  const bool minima = has_minima(m);
  Floats acc[R][U] = {};
  for (int64_t k = 0, g = 0; k < m.in; ++g) {
    Floats step, minimum;
    scales.take(g, lane, step, minimum);
    if (!minima) minimum = step * float(-MIDDLE);
    for (const int64_t last = k + m.group; k < last; k += 8) {
      fetch<LONG>(w + k * LANES / 2);
      const Words eight = read<Words>(w + k * LANES / 2);
      for (int j = 0; j < 8; ++j) {
        const Floats weight = to_floats((Ints)(eight >> (8 * (j & 3) + 4 * (j >> 2)) & 15)) * step + minimum;
        for (int r = 0; r < R; ++r) acc[r][j % U] += weight * tile[(k + j) * R + r];
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int u = 1; u < U; ++u) acc[r][0] += acc[r][u];
    y[r] = acc[r][0];
  }
}

inline void packed_product(const Linear& m, const Input& input, int64_t rows, float* y, int64_t ldy, Part part) {
  for (int64_t o = part.first; o < part.last; o += WIDTH)
    in_tiles<PACKED_R>(rows, [&](auto R, int64_t row) {
      Floats values[R()];
      const float* tile = input.tiles + row * input.ld;
      m.format == INT8 ? int8_of<R()>(m, o, tile, values) : int4_of<R()>(m, o, tile, values);
      const int64_t n = std::min<int64_t>(WIDTH, part.last - o);
      for (int r = 0; r < R(); ++r) std::memcpy(y + (row + r) * ldy + o, &values[r], n * sizeof(float));
    });
}
