// Products with weights of 8 and 4 bits and activations of 8 bits: integers times integers. The sums of a row are the
// same, in the same order, whatever the number of rows and threads: the result of a row does not depend on the others.
#pragma once
#include "scaling.h"

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

// Inputs that are added up in integers: they share a scale of x and one of the weights.
inline int64_t integer_step(const Linear& m) {
  return m.group % ACTIVATION_BLOCK == 0 ? ACTIVATION_BLOCK : m.group == ACTIVATION_BLOCK / 2 ? m.group : 8;
}

// The sum of the integers of inputs s to s + step of row r of a tile of R.
template <int R>
inline int32_t integers_of(const Rounded& x, int64_t row, int64_t s, int64_t step, int r) {
  const int64_t at = row * x.blocks + s / ACTIVATION_BLOCK * R + r;
  if (step == ACTIVATION_BLOCK) return x.sum_[at];
  if (step == ACTIVATION_BLOCK / 2) return s % ACTIVATION_BLOCK ? x.sum_[at] - x.half[at] : x.half[at];
  const int8_t* q = x.q + row * x.ld + s * R + r * 4;
  int32_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += q[i / 4 * 4 * R + i % 4];
  return sum;
}

// Weights of BITS whose scales belong to groups of inputs.
template <int BITS, int N, int R>
[[gnu::noinline]] void grouped_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, Floats* y, Ahead& ahead) {
  const int64_t step = integer_step(m), in_group = m.group / step;
  const bool minima = has_minima(m);
  const int32_t offset = BITS == 8 ? WEIGHT_OFFSET : minima ? 0 : MIDDLE;  // of what is multiplied
  const uint8_t* w[GROUPS<N>];
  for (int g = 0; g < GROUPS<N>; ++g)
    w[g] = static_cast<const uint8_t*>(m.weight) + (o + g * LANES) * m.in * BITS / 8;
  Scales scales[GROUPS<N>];
  for (int g = 0; g < GROUPS<N>; ++g) scales[g] = Scales(m, o + g * LANES);
  const int8_t* q = x.q + row * x.ld;  // four numbers of each row, then the next four
  const float* scale_of = x.scale + row * x.blocks;
  Floats total[R][N], scale[N], minimum[N];
  for (int n = 0; n < N; ++n) scale[n] = minimum[n] = Floats{};
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = Floats{};
  int64_t g = 0, left = 0;  // the next group, and the steps that are left in the present one
  for (int64_t s = 0; s < m.in; s += step) {
    ahead.step();
    Ints acc[R][N];
    int32_t sum[R];
    for (int r = 0; r < R; ++r) {
      sum[r] = integers_of<R>(x, row, s, step, r);
      for (int n = 0; n < N; ++n) acc[r][n] = Ints{} - offset * sum[r];
    }
#pragma GCC unroll 4
    for (int64_t k = s; k < s + step; k += 8) {
      if constexpr (BITS == 4) {
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
      } else {
        for (int64_t i = k; i < k + 8; i += 4) {
          Int8s weight[N];
          for (int n = 0; n < N; ++n) {
            const uint8_t* at = w[n / PARTS] + i * LANES + n % PARTS * WIDTH * 4;
            if (R == 1 && n % PARTS == 0) fetch<R>(at);
            weight[n] = int8s(read<Ints>(at));
          }
          for (int r = 0; r < R; ++r) {
            const Ints four = repeat4(q + i * R + r * 4);
            for (int n = 0; n < N; ++n) acc[r][n] = dot(acc[r][n], weight[n], four);
          }
        }
      }
    }
    if (left == 0) {
      for (int n = 0; n < N; ++n) scales[n / PARTS].take(g, n % PARTS * WIDTH, scale[n], minimum[n]);
      ++g;
      left = in_group;
    }
    --left;
    for (int r = 0; r < R; ++r) {
      const float one = scale_of[s / ACTIVATION_BLOCK * R + r];
      for (int n = 0; n < N; ++n) total[r][n] += to_floats(acc[r][n]) * (scale[n] * one);
      if (minima)
        for (int n = 0; n < N; ++n) total[r][n] += minimum[n] * (one * float(sum[r]));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) y[r * N + n] = total[r][n];
}

// N registers of outputs of all rows, at most MOST rows at a time.
template <int N, int MOST>
inline void a8_tiles(const Linear& m, int64_t o, const Rounded& x, int64_t rows, float* y, int64_t ldy) {
  const int64_t halves = m.format == INT8_A8 ? 2 : 1, outputs = std::min<int64_t>(N * WIDTH, m.out - o);
  const int64_t bytes = N * WIDTH * m.in * halves / 2, at = (o + N * WIDTH) * m.in * halves / 2;
  const int64_t steps = m.scaling == PER_OUTPUT ? x.blocks : m.in / integer_step(m);
  Ahead ahead(static_cast<const char*>(m.weight) + at, bytes / steps, rows == 1 ? 0 : (rows + MOST - 1) / MOST);
  in_tiles<MOST>(rows, [&](auto R, int64_t row) {
    Floats values[R() * N];
    if (m.format == INT4_A8) {
      grouped_a8_of<4, N, R()>(m, o, x, row, values, ahead);
    } else if (m.scaling == PER_OUTPUT) {
      int8_a8_of<N, R()>(m, o, x, row, values, ahead);
    } else {
      grouped_a8_of<8, N, R()>(m, o, x, row, values, ahead);
    }
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
