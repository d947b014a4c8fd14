// The arithmetic of attention: products of queries with keys, and weighted sums of values. Each query has its own order
// of sums, which is the same whatever the other queries are.
#pragma once
#include "parts.h"

// The positions of a head lie K d apart in the cache. No processor prefetches such a pattern past the end of a page.
constexpr int64_t POSITIONS_AHEAD = 64;
template <class T>
inline void fetch_position(const T* at, int64_t n) {
  for (int64_t j = 0; j < n; j += 64 / int64_t(sizeof(T))) __builtin_prefetch(at + j);
}

// The products of Q queries with up to WIDTH keys, of which n are there, one key in each lane; the other lanes hold what
// does not matter. ahead: the positions that are asked for meanwhile. Four keys at a time, so that each number of a
// query, once loaded, serves four.
template <int Q, class T>
[[gnu::noinline]] void score(const float* const* query, const T* key, int64_t ld, int64_t n, int64_t d, const T* ahead,
                             Floats* found) {
  constexpr int FOURS = WIDTH / 4;
  const int64_t whole = d / WIDTH * WIDTH;
  Floats four[Q][FOURS] = {};
  for (int i = 0; i < FOURS && 4 * i < n; ++i) {
    const T* at[4];
    for (int k = 0; k < 4; ++k) {
      fetch_position(ahead + (4 * i + k) * ld, d);
      at[k] = key + std::min<int64_t>(4 * i + k, n - 1) * ld;
    }
    Floats acc[Q][4] = {};
    for (int64_t j = 0; j < whole; j += WIDTH) {
      Floats some[4];
      for (int k = 0; k < 4; ++k) some[k] = load(at[k] + j);
      for (int q = 0; q < Q; ++q) {
        Floats one = load(query[q] + j);
        keep_in_register(one);
        for (int k = 0; k < 4; ++k) acc[q][k] += one * some[k];
      }
    }
    for (int q = 0; q < Q; ++q) four[q][i] = sum4(acc[q]);
  }
  for (int q = 0; q < Q; ++q) {
    found[q] = join_sums(four[q]);
    for (int64_t k = 0; whole < d && k < n; ++k) {
      float rest = 0;  // std::fma: the compiler may contract a product and a sum for one Q and not for another
      for (int64_t j = whole; j < d; ++j) rest = std::fma(query[q][j], to_float(key[k * ld + j]), rest);
      found[q][k] += rest;
    }
  }
}

template <int Q, int N, class T>
[[gnu::noinline]] void add(const T* value, int64_t ld, int64_t n, const T* next, const float* const* weights,
                           float* const* to, int64_t j) {
  Floats acc[Q][N];
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < N; ++c) acc[q][c] = load(to[q] + j + c * WIDTH);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t ahead = i + POSITIONS_AHEAD;
    fetch_position((ahead < n ? value + ahead * ld : next + (ahead - n) * ld) + j, N * WIDTH);
    for (int c = 0; c < N; ++c) {
      const Floats some = load(value + i * ld + j + c * WIDTH);
      for (int q = 0; q < Q; ++q) acc[q][c] += some * weights[q][i];
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < N; ++c) write(to[q] + j + c * WIDTH, acc[q][c]);
}

// to[q] += the sum of n values, each times its weight for query q. next: what is read after them.
template <int Q, class T>
[[gnu::noinline]] void add_all(const T* value, int64_t ld, int64_t n, int64_t d, const T* next,
                               const float* const* weights, float* const* to) {
  int64_t j = 0;
  for (; j + 4 * WIDTH <= d; j += 4 * WIDTH) add<Q, 4>(value, ld, n, next, weights, to, j);
  for (; j + WIDTH <= d; j += WIDTH) add<Q, 1>(value, ld, n, next, weights, to, j);
  for (; j < d; ++j)
    for (int q = 0; q < Q; ++q)
      for (int64_t k = 0; k < n; ++k) to[q][j] = std::fma(weights[q][k], to_float(value[k * ld + j]), to[q][j]);
}
