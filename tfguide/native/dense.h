// Products with weights of 32 and 16 bits, as the frameworks keep them.
#pragma once
#include "inputs.h"

// ---- (out, in): dot products of a row of weights with each row of x

// N rows of weights with R rows of x.
template <class T, int N, int R>
inline void dot_rows(const T* w, int64_t in, const float* x, int64_t ldx, float* y, int64_t ldy) {
  constexpr int U = N * R <= 2 ? 4 / (N * R) : 1;  // independent sums, to hide the latency of an addition
  Floats acc[N][R][U][2] = {};
  int64_t k = 0;
  for (; k + U * 2 * LANES <= in; k += U * 2 * LANES)
    for (int u = 0; u < U; ++u) {
      const int64_t i = k + u * 2 * LANES;
      for (int n = 0; n < N; ++n) {
        const T* at = w + n * in + i;
        fetch<R>(at);
        if (sizeof(T) == 4) fetch<R>(at + LANES);
        Floats low, high;
        load_two(at, low, high);
        for (int r = 0; r < R; ++r) {
          acc[n][r][u][0] += low * load(x + r * ldx + i);
          acc[n][r][u][1] += high * load(x + r * ldx + i + LANES);
        }
      }
    }
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) {
      Floats total = acc[n][r][0][0] + acc[n][r][0][1];
      for (int u = 1; u < U; ++u) total += acc[n][r][u][0] + acc[n][r][u][1];
      float value = sum(total);
      for (int64_t i = k; i < in; ++i) value += to_float(w[n * in + i]) * x[r * ldx + i];
      y[r * ldy + n] = value;
    }
}

// One row of bfloat16 weights with R rows of x. A word holds two weights: the lower one is shifted up, the upper one is
// masked. `halves`: each 32 numbers of x with the even ones first.
template <int R>
inline void dot_pairs(const Bfloat16* w, int64_t in, const float* x, int64_t ldx, const float* halves, float* y,
                      int64_t ldy) {
  constexpr int U = R == 1 ? 4 : R == 2 ? 2 : 1;
  Floats acc[R][U][2] = {};
  int64_t k = 0;
  for (; k + U * 2 * LANES <= in; k += U * 2 * LANES)
    for (int u = 0; u < U; ++u) {
      const int64_t i = k + u * 2 * LANES;
      fetch<R>(w + i);
      const Words both = read<Words>(w + i);
      const Floats even = (Floats)(both << 16), odd = (Floats)(both & 0xffff0000u);
      for (int r = 0; r < R; ++r) {
        acc[r][u][0] += even * load(halves + r * ldx + i);
        acc[r][u][1] += odd * load(halves + r * ldx + i + LANES);
      }
    }
  for (int r = 0; r < R; ++r) {
    Floats total = acc[r][0][0] + acc[r][0][1];
    for (int u = 1; u < U; ++u) total += acc[r][u][0] + acc[r][u][1];
    float value = sum(total);
    for (int64_t i = k; i < in; ++i) value += to_float(w[i]) * x[r * ldx + i];
    y[r * ldy] = value;
  }
}

// Not inlined, like those of packed.h and rounded.h: in one large function the compiler keeps sums in memory.
template <class T, int R>
[[gnu::noinline]] void rows_of(const Linear& m, int64_t o, int64_t n, const float* x, int64_t ldx, float* y, int64_t ldy) {
  const T* w = static_cast<const T*>(m.weight);
  int64_t i = o;
  if (sizeof(T) == 4 && !IS_AMD)
    for (; i + 2 <= o + n; i += 2) dot_rows<T, 2, R>(w + i * m.in, m.in, x, ldx, y + i, ldy);
  for (; i < o + n; ++i) dot_rows<T, 1, R>(w + i * m.in, m.in, x, ldx, y + i, ldy);
}

template <int R>
[[gnu::noinline]] void pairs_of(const Linear& m, int64_t o, int64_t n, const float* x, int64_t ldx, const float* halves,
                                float* y, int64_t ldy) {
  const Bfloat16* w = static_cast<const Bfloat16*>(m.weight);
  for (int64_t i = o; i < o + n; ++i) dot_pairs<R>(w + i * m.in, m.in, x, ldx, halves, y + i, ldy);
}

// ---- (in, out): rows of weights, each times a number of x, added up

// y += sum of x[i] times a row of weights, for N inputs i, `step` apart.
template <class T, int N, int R>
inline void add_columns(const T* w, int64_t step, const float* x, int64_t ldx, int64_t out, float* y, int64_t ldy) {
  int64_t j = 0;
  for (; j + LANES <= out; j += LANES) {
    Floats acc[R];
    for (int r = 0; r < R; ++r) acc[r] = load(y + r * ldy + j);
    for (int i = 0; i < N; ++i) {
      const T* at = w + i * step * out + j;
      if (j * sizeof(T) % 64 == 0) fetch<LITTLE>(at);
      const Floats weight = load(at);
      for (int r = 0; r < R; ++r) acc[r] += weight * x[r * ldx + i * step];
    }
    for (int r = 0; r < R; ++r) write(y + r * ldy + j, acc[r]);
  }
  for (; j < out; ++j)
    for (int r = 0; r < R; ++r)
      for (int i = 0; i < N; ++i) y[r * ldy + j] += to_float(w[i * step * out + j]) * x[r * ldx + i * step];
}

// Eight inputs at once, so that y is read and written once for eight of them. One comes from each eighth of the
// thread's part, so that each is a long stream. Eight rows side by side can share a page, and then the processor,
// which looks for one pattern in each page, does not prefetch them.
template <class T, int R>
inline void columns_of(const Linear& m, int64_t first, int64_t last, const float* x, int64_t ldx, float* y) {
  const T* w = static_cast<const T*>(m.weight);
  const int64_t eighth = (last - first) / 8;
  for (int64_t i = first; i < first + eighth; ++i)
    add_columns<T, 8, R>(w + i * m.out, eighth, x + i, ldx, m.out, y, m.out);
  for (int64_t i = first + 8 * eighth; i < last; ++i)
    add_columns<T, 1, R>(w + i * m.out, 1, x + i, ldx, m.out, y, m.out);
}

template <class T>
inline void partial_sums_of(const Linear& m, const float* x, int64_t ldx, int64_t rows, float* y, Part part) {
  for (int64_t r = 0; r < rows; r += 4) {
    const float* from = x + r * ldx;
    float* to = y + r * m.out;
    switch (std::min<int64_t>(rows - r, 4)) {
      case 1: columns_of<T, 1>(m, part.first, part.last, from, ldx, to); break;
      case 2: columns_of<T, 2>(m, part.first, part.last, from, ldx, to); break;
      case 3: columns_of<T, 3>(m, part.first, part.last, from, ldx, to); break;
      default: columns_of<T, 4>(m, part.first, part.last, from, ldx, to);
    }
  }
}

// (in, out) matrices are read along their rows: a thread takes some of the inputs, and computes a part of every output.
inline void partial_sums(const Linear& m, const float* x, int64_t ldx, int64_t rows, float* y, Part part) {
  std::memset(y, 0, rows * m.out * sizeof(float));
  switch (m.format) {
    case F32_COLUMNS: partial_sums_of<float>(m, x, ldx, rows, y, part); break;
    case BF16_COLUMNS: partial_sums_of<Bfloat16>(m, x, ldx, rows, y, part); break;
    default: partial_sums_of<Float16>(m, x, ldx, rows, y, part);
  }
}
