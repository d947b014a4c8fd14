// Products with weights of 8 and 4 bits and activations of 8 bits: integers times integers. The sums of a row are the
// same, in the same order, whatever the number of rows and threads: the result of a row does not depend on the others.
#pragma once
#include "inputs.h"

// N registers of outputs lie in so many groups of 16, the words of a group (4 bytes of each output) side by side.
template <int N>
constexpr int GROUPS = (N + PARTS - 1) / PARTS;

// N registers of outputs from o on, which begin a group, for R rows. y: N * R registers, those of a row together.
template <int N, int R>
[[gnu::noinline]] void int8_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, Floats* y, Ahead& ahead) {
  const int64_t in = padded(m.in, 4);
  const int8_t* w[GROUPS<N>];
  for (int g = 0; g < GROUPS<N>; ++g) w[g] = static_cast<const int8_t*>(m.weight) + (o + g * LANES) * in;
  const int8_t* q = x.q + row * x.ld;  // four numbers of each row, then the next four
  const float* scale_of = x.scale + row * x.blocks;
  const int32_t* sum_of = x.sum_ + row * x.blocks;
  Floats total[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = Floats{};
  for (int64_t b = 0; b < x.blocks; ++b) {
    ahead.step();
    Ints acc[R][N];
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) acc[r][n] = Ints{} - WEIGHT_OFFSET * sum_of[b * R + r];
    const int64_t last = std::min<int64_t>(in, (b + 1) * ACTIVATION_BLOCK);
#pragma GCC unroll 8
    for (int64_t k = b * ACTIVATION_BLOCK; k < last; k += 4) {
      Int8s weight[N];
      for (int n = 0; n < N; ++n) {
        const int8_t* at = w[n / PARTS] + k * LANES + n % PARTS * WIDTH * 4;
        if (R == 1 && n % PARTS == 0) fetch<R>(at);
        weight[n] = int8s(read<Ints>(at));
      }
      for (int r = 0; r < R; ++r) {
        const Ints four = repeat4(q + k * R + r * 4);
        for (int n = 0; n < N; ++n) acc[r][n] = dot(acc[r][n], weight[n], four);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) total[r][n] += to_floats(acc[r][n]) * scale_of[b * R + r];
  }
  for (int n = 0; n < N; ++n) {
    const Floats scale = load(static_cast<const float*>(m.scale) + o + n * WIDTH);
    for (int r = 0; r < R; ++r) y[r * N + n] = total[r][n] * scale;
  }
}

template <int N, int R>
[[gnu::noinline]] void int4_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, Floats* y, Ahead& ahead) {
  // A group of weights and a block of x both start at multiples of 8: each step is the shorter of the two.
  const int64_t step = m.group % ACTIVATION_BLOCK == 0 ? ACTIVATION_BLOCK : 8;
  const uint8_t* w[GROUPS<N>];
  const Float16* scales[GROUPS<N>];
  for (int g = 0; g < GROUPS<N>; ++g) {
    w[g] = static_cast<const uint8_t*>(m.weight) + (o + g * LANES) * m.in / 2;
    scales[g] = static_cast<const Float16*>(m.scale) + (o + g * LANES) * (m.in / m.group);
  }
  const int8_t* q = x.q + row * x.ld;  // four numbers of each row, then the next four
  const float* scale_of = x.scale + row * x.blocks;
  const int32_t* sum_of = x.sum_ + row * x.blocks;
  Floats total[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = Floats{};
  for (int64_t s = 0; s < m.in; s += step) {
    ahead.step();
    Ints acc[R][N];
    const int64_t b = s / ACTIVATION_BLOCK;
    for (int r = 0; r < R; ++r) {
      int32_t sum = 0;
      if (step == ACTIVATION_BLOCK) {
        sum = sum_of[b * R + r];
      } else {
        for (int i = 0; i < 8; ++i) sum += q[(s + i / 4 * 4) * R + r * 4 + i % 4];
      }
      for (int n = 0; n < N; ++n) acc[r][n] = Ints{} - 8 * sum;
    }
    const int64_t last = std::min(m.in, s + step);
#pragma GCC unroll 4
    for (int64_t k = s; k < last; k += 8) {
      Ints low[N], high[N];
      for (int n = 0; n < N; ++n) {
        const uint8_t* at = w[n / PARTS] + k * LANES / 2 + n % PARTS * WIDTH * 4;
        if (R == 1 && n % PARTS == 0) fetch<LONG>(at);
        const Ints eight = read<Ints>(at);
        low[n] = eight & 0x0f0f0f0f;
        high[n] = eight >> 4 & 0x0f0f0f0f;
      }
      for (int r = 0; r < R; ++r) {
        const Ints first = repeat4(q + k * R + r * 4), second = repeat4(q + (k + 4) * R + r * 4);
        for (int n = 0; n < N; ++n) acc[r][n] = dot_int4(acc[r][n], low[n], high[n], first, second);
      }
    }
    for (int n = 0; n < N; ++n) {
      const Floats scale = load(scales[n / PARTS] + s / m.group * LANES + n % PARTS * WIDTH);
      for (int r = 0; r < R; ++r) total[r][n] += to_floats(acc[r][n]) * (scale * scale_of[b * R + r]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) y[r * N + n] = total[r][n];
}

// N registers of outputs of all rows, at most MOST rows at a time.
template <int N, int MOST>
inline void a8_tiles(const Linear& m, int64_t o, const Rounded& x, int64_t rows, float* y, int64_t ldy) {
  const int64_t bytes = N * WIDTH * m.in / (m.format == INT8_A8 ? 1 : 2), outputs = std::min<int64_t>(N * WIDTH, m.out - o);
  const int64_t at = (o + N * WIDTH) * m.in / (m.format == INT8_A8 ? 1 : 2);
  const int64_t steps = m.format == INT8_A8 || m.group % ACTIVATION_BLOCK == 0 ? x.blocks : m.in / 8;
  Ahead ahead(static_cast<const char*>(m.weight) + at, bytes / steps, rows == 1 ? 0 : (rows + MOST - 1) / MOST);
  in_tiles<MOST>(rows, [&](auto R, int64_t row) {
    Floats values[R() * N];
    m.format == INT8_A8 ? int8_a8_of<N, R()>(m, o, x, row, values, ahead) : int4_a8_of<N, R()>(m, o, x, row, values, ahead);
    for (int r = 0; r < R(); ++r) {
      float* to = y + (row + r) * ldy + o;
      if (outputs == N * WIDTH) {
        std::memcpy(to, values + r * N, sizeof(Floats) * N);  // of a constant size: no call
      } else {
        std::memcpy(to, values + r * N, outputs * sizeof(float));
      }
    }
  });
}

template <int N>
inline void a8_tiles(const Linear& m, int64_t o, const Rounded& x, int64_t rows, float* y, int64_t ldy) {
  if (rows > A8_FEW_R) return a8_tiles<N, A8_MANY_R>(m, o, x, rows, y, ldy);
  a8_tiles<N, A8_FEW_R>(m, o, x, rows, y, ldy);
}

inline void a8_product(const Linear& m, const Rounded& x, int64_t rows, float* y, int64_t ldy, Part part) {
  int64_t o = part.first;
  if (rows > A8_FEW_R)
    for (; o + A8_MANY_N * WIDTH <= padded(part.last, LANES); o += A8_MANY_N * WIDTH)
      a8_tiles<A8_MANY_N, A8_MANY_R>(m, o, x, rows, y, ldy);
  for (; o < part.last; o += LANES) a8_tiles<PARTS>(m, o, x, rows, y, ldy);
}
