// Products with weights of 8 and 4 bits and activations of 8 bits: integers times integers. The sums of a row are the
// same, in the same order, whatever the number of rows and threads: the result of a row does not depend on the others.
#pragma once
#include "inputs.h"

// Four bytes of a row, repeated through a register.
inline WideInts repeat4(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
#if defined(__AVX512F__)
  return (WideInts)_mm512_set1_epi32(word);  // becomes part of the instruction that multiplies
#elif defined(__AVX2__)
  return (WideInts)_mm256_set1_epi32(word);
#else
  return WideInts{} + word;
#endif
}

// N registers of outputs from o on, for R rows. y: N * R registers, those of a row together.
template <int N, int R>
[[gnu::noinline]] void int8_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, WideFloats* y) {
  const int64_t in = padded(m.in, 4);
  const int8_t* w[N];
  for (int n = 0; n < N; ++n) {
    const int64_t first = o + n * WIDTH;  // its group of 16 lies together, in words of 4 bytes for each output
    w[n] = static_cast<const int8_t*>(m.weight) + first / LANES * LANES * in + first % LANES * 4;
  }
  WideFloats total[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = WideFloats{};
  for (int64_t b = 0; b < x.blocks; ++b) {
    // One side of the instruction is unsigned: 128 is added to the weights, and 128 times the sum of x is subtracted.
    WideInts acc[R][N];
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) acc[r][n] = WideInts{} - 128 * x.sum_[(row + r) * x.blocks + b];
    const int64_t last = std::min<int64_t>(in, (b + 1) * ACTIVATION_BLOCK);
#pragma GCC unroll 8
    for (int64_t k = b * ACTIVATION_BLOCK; k < last; k += 4) {
      WideInts weight[N];
      for (int n = 0; n < N; ++n) {
        fetch<R>(w[n] + k * LANES);
        weight[n] = read<WideInts>(w[n] + k * LANES) ^ int32_t(0x80808080);
      }
      for (int r = 0; r < R; ++r) {
        const WideInts four = repeat4(x.q + (row + r) * x.ld + k);
        for (int n = 0; n < N; ++n) acc[r][n] = dot4(acc[r][n], weight[n], four);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n)
        total[r][n] += __builtin_convertvector(acc[r][n], WideFloats) * x.scale[(row + r) * x.blocks + b];
  }
  for (int n = 0; n < N; ++n) {
    const WideFloats scale = read<WideFloats>(static_cast<const float*>(m.scale) + o + n * WIDTH);
    for (int r = 0; r < R; ++r) y[r * N + n] = total[r][n] * scale;
  }
}

template <int N, int R>
[[gnu::noinline]] void int4_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, WideFloats* y) {
  // A group of weights and a block of x both start at multiples of 8: each step is the shorter of the two.
  const int64_t step = m.group % ACTIVATION_BLOCK == 0 ? ACTIVATION_BLOCK : 8;
  const uint8_t* w[N];
  const Float16* scales[N];
  for (int n = 0; n < N; ++n) {
    const int64_t first = o + n * WIDTH, group = first / LANES * LANES, lane = first % LANES;
    w[n] = static_cast<const uint8_t*>(m.weight) + group * m.in / 2 + lane * 4;
    scales[n] = static_cast<const Float16*>(m.scale) + group * (m.in / m.group) + lane;
  }
  WideFloats total[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = WideFloats{};
  for (int64_t s = 0; s < m.in; s += step) {
    WideInts acc[R][N];
    const int64_t b = s / ACTIVATION_BLOCK;
    for (int r = 0; r < R; ++r) {
      int32_t sum = 0;
      if (step == ACTIVATION_BLOCK) {
        sum = x.sum_[(row + r) * x.blocks + b];
      } else {
        for (int i = 0; i < 8; ++i) sum += x.q[(row + r) * x.ld + s + i];
      }
      for (int n = 0; n < N; ++n) acc[r][n] = WideInts{} - 8 * sum;
    }
    const int64_t last = std::min(m.in, s + step);
#pragma GCC unroll 4
    for (int64_t k = s; k < last; k += 8) {
      WideInts low[N], high[N];
      for (int n = 0; n < N; ++n) {
        fetch<LONG>(w[n] + k * LANES / 2);
        const WideInts eight = read<WideInts>(w[n] + k * LANES / 2);
        low[n] = eight & 0x0f0f0f0f;
        high[n] = eight >> 4 & 0x0f0f0f0f;
      }
      for (int r = 0; r < R; ++r) {
        const int8_t* from = x.q + (row + r) * x.ld + k;
        const WideInts first = repeat4(from), second = repeat4(from + 4);
        for (int n = 0; n < N; ++n) acc[r][n] = dot4(dot4(acc[r][n], low[n], first), high[n], second);
      }
    }
    for (int n = 0; n < N; ++n) {
      const WideFloats scale = load_wide(scales[n] + s / m.group * LANES);
      for (int r = 0; r < R; ++r)
        total[r][n] += __builtin_convertvector(acc[r][n], WideFloats) * (scale * x.scale[(row + r) * x.blocks + b]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) y[r * N + n] = total[r][n];
}

// G times 16 outputs from o on, for R rows, into y (rows, ldy).
template <int G, int R>
inline void a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, float* y, int64_t ldy) {
  constexpr int N = G * LANES / WIDTH;
  WideFloats values[R * N];
  if (m.format == INT8_A8)
    int8_a8_of<N, R>(m, o, x, row, values);
  else
    int4_a8_of<N, R>(m, o, x, row, values);
  for (int r = 0; r < R; ++r) std::memcpy(y + r * ldy + o, values + r * N, std::min<int64_t>(N * WIDTH, m.out - o) * 4);
}

// How many sums fit into the registers. AVX-512 has 32: 2 x 6 sums, as many counters, and their operands. Two groups of
// 16 outputs at once, so that an operand made from a row serves twice.
#if defined(__AVX512F__)
constexpr int GROUPS = 2, GROUP_ROWS = 6, FEW_ROWS = 8;
#elif defined(__AVX2__)
constexpr int GROUPS = 1, GROUP_ROWS = 3, FEW_ROWS = 3;
#else
constexpr int GROUPS = 1, GROUP_ROWS = 8, FEW_ROWS = 8;
#endif

// All rows, up to R at a time.
template <int G, int R>
inline void a8_rows(const Linear& m, int64_t o, const Rounded& x, int64_t rows, float* y, int64_t ldy, int64_t row = 0) {
  for (; row + R <= rows; row += R) a8_of<G, R>(m, o, x, row, y + row * ldy, ldy);
  if constexpr (R > 1) {
    if (row < rows) a8_rows<G, R - 1>(m, o, x, rows, y, ldy, row);
  }
}

inline void a8_product(const Linear& m, const Rounded& x, int64_t rows, float* y, int64_t ldy, Part part) {
  int64_t o = part.first;
  if (rows > FEW_ROWS)
    for (; o + GROUPS * LANES <= padded(part.last, LANES); o += GROUPS * LANES)
      a8_rows<GROUPS, GROUP_ROWS>(m, o, x, rows, y, ldy);
  for (; o < part.last; o += LANES) a8_rows<1, FEW_ROWS>(m, o, x, rows, y, ldy);
}

