// Products with weights of 32 and 16 bits, as the frameworks keep them.
#pragma once
#include "inputs.h"

// ---- (out, in): dot products of rows of weights with rows of x. The numbers of bfloat16 come in pairs, the even ones
// before the odd ones, and so does x (see Input).

template <class T>
inline Floats load_half(const T* from, int half) { return load(from + half * WIDTH); }
inline Floats load_half(const Bfloat16* from, int half) {
  const Words both = read<Words>(from);
  return (Floats)(half ? both & 0xffff0000u : both << 16);
}

// What is left of a row after the last whole step.
template <class T>
inline float rest_of(const T* w, const float* x, int64_t first, int64_t in) {
  float total = 0;
  for (int64_t i = first; i < in; ++i) total += to_float(w[i]) * x[i];
  return total;
}

// One row of weights with one row of x: nothing but reading.
template <class T>
inline float dot_row(const T* w, int64_t in, const float* x, const float* tile) {
  constexpr int U = 4;  // independent sums, to hide the latency of an addition
  Floats acc[U][2] = {};
  int64_t k = 0;
  for (; k + U * 2 * WIDTH <= in; k += U * 2 * WIDTH)
    for (int u = 0; u < U; ++u) {
      const int64_t i = k + u * 2 * WIDTH;
      for (int64_t line = 0; line < 2 * WIDTH * int64_t(sizeof(T)); line += 64)
        fetch<1>(reinterpret_cast<const char*>(w + i) + line);
      Floats low, high;
      load_two(w + i, low, high);
      acc[u][0] += low * load(tile + i);
      acc[u][1] += high * load(tile + i + WIDTH);
    }
  for (; k + 2 * WIDTH <= in; k += 2 * WIDTH) {
    Floats low, high;
    load_two(w + k, low, high);
    acc[0][0] += low * load(tile + k);
    acc[0][1] += high * load(tile + k + WIDTH);
  }
  Floats total = acc[0][0] + acc[0][1];
  for (int u = 1; u < U; ++u) total += acc[u][0] + acc[u][1];
  return sum(total) + rest_of(w, x, k, in);
}

// The sums over the lanes, and what is left of the rows from input k on.
template <int N, int R, class T>
inline void finish_tile(const Floats* acc, const T* w, int64_t in, const float* x, int64_t k, float* y, int64_t ldy) {
  float totals[R * N];
  int i = 0;
  for (; i + 4 <= R * N; i += 4) write_sum4(totals + i, sum4(acc + i));
  for (; i < R * N; ++i) totals[i] = sum(acc[i]);
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) y[r * ldy + n] = totals[r * N + n] + rest_of(w + n * in, x + r * in, k, in);
}

// N rows of weights with R rows of x: as many sums as there are registers, so that each load serves several products.
// Not inlined, like those of packed.h and rounded.h: in one large function the compiler keeps sums in memory.
template <class T, int N, int R>
[[gnu::noinline]] void dot_tile(const T* w, int64_t in, const float* x, const float* tile, float* y, int64_t ldy,
                                Ahead& ahead) {
  Floats acc[R * N] = {};
  int64_t k = 0;
  for (; k + 2 * WIDTH <= in; k += 2 * WIDTH) {
    ahead.step();
    for (int half = 0; half < 2; ++half) {
      Floats weight[N];
      for (int n = 0; n < N; ++n) weight[n] = load_half(w + n * in + k, half);
      for (int r = 0; r < R; ++r) {
        Floats one = load(tile + r * 2 * WIDTH + half * WIDTH);
        keep_in_register(one);
        for (int n = 0; n < N; ++n) acc[r * N + n] += weight[n] * one;
      }
    }
    tile += R * 2 * WIDTH;
  }
  finish_tile<N, R>(acc, w, in, x, k, y, ldy);
}

// The same in bfloat16, x too.
template <int N, int R>
[[gnu::noinline]] void dot_tile_bfloat16(const Bfloat16* w, int64_t in, const float* x, const float* tile, float* y,
                                         int64_t ldy, Ahead& ahead) {
#if defined(HAS_DOT_BFLOAT16)
  const Bfloat16* rounded = reinterpret_cast<const Bfloat16*>(tile);
  Floats acc[R * N] = {};
  int64_t k = 0;
  for (; k + 2 * WIDTH <= in; k += 2 * WIDTH, rounded += R * 2 * WIDTH) {
    ahead.step();
    Words weight[N];
    for (int n = 0; n < N; ++n) weight[n] = read<Words>(w + n * in + k);
    for (int r = 0; r < R; ++r) {
      const Words one = read<Words>(rounded + r * 2 * WIDTH);
      for (int n = 0; n < N; ++n) acc[r * N + n] = dot_pairs(acc[r * N + n], weight[n], one);
    }
  }
  finish_tile<N, R>(acc, w, in, x, k, y, ldy);
#endif
}

template <class T>
inline void rows_product(const Linear& m, const Input& input, int64_t rows, float* y, int64_t ldy, Part part) {
  const T* w = static_cast<const T*>(m.weight);
  int64_t o = part.first;
  if (rows == 1) {
    for (; o < part.last; ++o) y[o] = dot_row(w + o * m.in, m.in, input.x, input.tiles);
    return;
  }
  for (; o < part.last; o += TILE_N) {
    const int n = int(std::min<int64_t>(TILE_N, part.last - o));
    Ahead ahead(w + (o + TILE_N) * m.in, TILE_N * 2 * WIDTH * sizeof(T), (rows + TILE_R - 1) / TILE_R);
    in_tiles<TILE_R>(rows, [&](auto R, int64_t row) {
      const float *x = input.x + row * m.in, *tile = input.tiles + row * input.ld;
      float* to = y + row * ldy + o;
      const auto multiply = [&](auto N, int64_t n) {
        const T* from = w + (o + n) * m.in;
        if constexpr (std::is_same_v<T, Bfloat16>)
          if (in_bfloat16(m, rows)) return dot_tile_bfloat16<N(), R()>(from, m.in, x, tile, to + n, ldy, ahead);
        dot_tile<T, N(), R()>(from, m.in, x, tile, to + n, ldy, ahead);
      };
      if (n == TILE_N) return multiply(Constant<TILE_N>{}, 0);
      for (int i = 0; i < n; ++i) multiply(Constant<1>{}, i);
    });
  }
}

// ---- (in, out): rows of weights, each times a number of x, added up

// y += sum of x[i] times a row of weights, for N inputs i, `step` apart.
template <class T, int N, int R>
inline void add_columns(const T* w, int64_t step, const float* x, int64_t ldx, int64_t out, float* y, int64_t ldy) {
  int64_t j = 0;
  for (; j + WIDTH <= out; j += WIDTH) {
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

// A few rows: (in, out) matrices are read along their rows. A thread takes some of the inputs, and computes a part of
// every output.
template <class T>
inline void partial_sums_of(const Linear& m, const float* x, int64_t ldx, int64_t rows, float* y, Part part) {
  std::memset(y, 0, rows * m.out * sizeof(float));
  in_tiles<COLUMN_ROWS>(rows, [&](auto R, int64_t row) {
    columns_of<T, R()>(m, part.first, part.last, x + row * ldx, ldx, y + row * m.out);
  });
}

inline void partial_sums(const Linear& m, const float* x, int64_t ldx, int64_t rows, float* y, Part part) {
  switch (m.format) {
    case F32_COLUMNS: return partial_sums_of<float>(m, x, ldx, rows, y, part);
    case BF16_COLUMNS: return partial_sums_of<Bfloat16>(m, x, ldx, rows, y, part);
    default: return partial_sums_of<Float16>(m, x, ldx, rows, y, part);
  }
}

constexpr int DEEP = 16;  // rows of weights that are asked for ahead

// More rows: C registers of outputs for R rows stay in registers over all inputs.
template <class T, int C, int R>
[[gnu::noinline]] void column_tile(const T* w, int64_t in, int64_t out, const float* tile, float* y, int64_t ldy,
                                   bool fetches) {
  constexpr int LINE = 64 / sizeof(T);
  Floats acc[R][C] = {};
  for (int64_t k = 0; k < in; ++k, w += out, tile += R) {
    for (int j = 0; fetches && j < C * WIDTH; j += LINE) __builtin_prefetch(w + DEEP * out + j);
    Floats weight[C];
    for (int c = 0; c < C; ++c) weight[c] = load(w + c * WIDTH);
    for (int r = 0; r < R; ++r) {
      Floats one = all(tile[r]);
      for (int c = 0; c < C; ++c) acc[r][c] += weight[c] * one;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) write(y + r * ldy + c * WIDTH, acc[r][c]);
}

// The same in bfloat16, x too: C registers of 2 * WIDTH outputs.
template <int C, int R>
[[gnu::noinline]] void column_tile_bfloat16(const Bfloat16* w, int64_t in, int64_t out, const float* tile, float* y,
                                            int64_t ldy, bool fetches) {
#if defined(HAS_DOT_BFLOAT16)
  const uint32_t* pairs = reinterpret_cast<const uint32_t*>(tile);
  Floats acc[R][C][2] = {};
  for (int64_t k = 0; k < in; k += 2, w += 2 * out, pairs += R)
    for (int c = 0; c < C; ++c) {
      const Bfloat16* at = w + c * 2 * WIDTH;
      for (int row = DEEP; fetches && row < DEEP + 2; ++row) __builtin_prefetch(at + row * out);
      Words first, second;
      make_pairs(read<Words>(at), k + 1 < in ? read<Words>(at + out) : Words{}, first, second);
      for (int r = 0; r < R; ++r) {
        const Words one = Words{} + pairs[r];
        acc[r][c][0] = dot_pairs(acc[r][c][0], first, one);
        acc[r][c][1] = dot_pairs(acc[r][c][1], second, one);
      }
    }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      in_order(acc[r][c][0], acc[r][c][1]);
      for (int i = 0; i < 2; ++i) write(y + r * ldy + (2 * c + i) * WIDTH, acc[r][c][i]);
    }
#endif
}

template <class T>
[[gnu::noinline]] void column_rest(const T* w, int64_t in, int64_t out, int64_t n, const float* x, float* y) {
  for (int64_t j = 0; j < n; ++j) {
    float total = 0;
    for (int64_t k = 0; k < in; ++k) total += to_float(w[k * out + j]) * x[k];
    y[j] = total;
  }
}

template <class T>
inline void columns_product(const Linear& m, const Input& input, int64_t rows, float* y, int64_t ldy, Part part) {
  const T* w = static_cast<const T*>(m.weight);
  int64_t o = part.first;
  const auto tiles = [&](auto C) {
    in_tiles<TILE_R>(rows, [&](auto R, int64_t row) {
      const float* tile = input.tiles + row * input.ld;
      float* to = y + row * ldy + o;
      if constexpr (std::is_same_v<T, Bfloat16>)
        if (in_bfloat16(m, rows))
          return column_tile_bfloat16<(C() + 1) / 2, R()>(w + o, m.in, m.out, tile, to, ldy, row == 0);
      column_tile<T, C(), R()>(w + o, m.in, m.out, tile, to, ldy, row == 0);
    });
  };
  const int64_t least = (in_bfloat16(m, rows) ? 2 : 1) * WIDTH;
  for (; o + COLUMN_C * WIDTH <= part.last; o += COLUMN_C * WIDTH) tiles(Constant<COLUMN_C>{});
  for (; o + least <= part.last; o += least) tiles(Constant<1>{});
  for (int64_t r = 0; o < part.last && r < rows; ++r)
    column_rest(w + o, m.in, m.out, part.last - o, input.x + r * m.in, y + r * ldy + o);
}
