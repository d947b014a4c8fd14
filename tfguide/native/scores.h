// The arithmetic of attention: products of queries with keys, and weighted sums of values. Each query has its own order
// of sums, which is the same whatever the other queries are.
#pragma once
#include "parts.h"

// The positions of a head lie K d apart in the cache. No processor prefetches such a pattern past the end of a page.
constexpr int64_t POSITIONS_AHEAD = 16;
template <class T>
inline void fetch_position(const T* at, int64_t n) {
  for (int64_t j = 0; j < n; j += 64 / int64_t(sizeof(T))) __builtin_prefetch(at + j);
}

// The sums of the products of Q queries with 4 keys, of which n are there: found[q], as sum4 leaves them.
template <int Q, class T>
inline void four_keys(const float* const* query, const T* key, int64_t ld, int64_t n, int64_t d, Floats* found) {
  const T* at[4];
  for (int k = 0; k < 4; ++k) at[k] = key + std::min<int64_t>(k, n - 1) * ld;
  Floats acc[Q][4] = {};
  int64_t j = 0;
  for (; j + WIDTH <= d; j += WIDTH) {
    Floats some[4];
    for (int k = 0; k < 4; ++k) some[k] = load(at[k] + j);
    for (int q = 0; q < Q; ++q) {
      const Floats one = load(query[q] + j);
      for (int k = 0; k < 4; ++k) acc[q][k] += one * some[k];
    }
  }
  for (int q = 0; q < Q; ++q) {
    for (int k = 0; j < d && k < 4; ++k) {
      float rest = 0;  // std::fma: the compiler may contract a product and a sum for one Q and not for another
      for (int64_t o = j; o < d; ++o) rest = std::fma(query[q][o], to_float(at[k][o]), rest);
      acc[q][k][0] += rest;
    }
    found[q] = sum4(acc[q]);
  }
}

// The products of Q queries with up to WIDTH keys, one key in each lane; lanes beyond n hold what does not matter.
template <int Q, class T>
[[gnu::noinline]] void score(const float* const* query, const T* key, int64_t ld, int64_t n, int64_t d, float scale, Floats* found) {
  constexpr int FOURS = WIDTH / 4;
  Floats four[Q][FOURS] = {};
  for (int i = 0; i < FOURS && 4 * i < n; ++i) {
    for (int64_t k = 4 * i; k < 4 * i + 4; ++k) fetch_position(key + (k + POSITIONS_AHEAD) * ld, d);
    Floats sums[Q];
    four_keys<Q>(query, key + 4 * i * ld, ld, n - 4 * i, d, sums);
    for (int q = 0; q < Q; ++q) four[q][i] = sums[q];
  }
  for (int q = 0; q < Q; ++q) found[q] = join_sums(four[q]) * scale;
}

template <int Q, int N, class T>
[[gnu::noinline]] void add(const T* value, int64_t ld, int64_t n, const float* const* weights, float* const* to, int64_t j) {
  Floats acc[Q][N];
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < N; ++c) acc[q][c] = load(to[q] + j + c * WIDTH);
  for (int64_t i = 0; i < n; ++i) {
    fetch_position(value + (i + POSITIONS_AHEAD) * ld + j, N * WIDTH);
    for (int c = 0; c < N; ++c) {
      const Floats some = load(value + i * ld + j + c * WIDTH);
      for (int q = 0; q < Q; ++q) acc[q][c] += some * weights[q][i];
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < N; ++c) write(to[q] + j + c * WIDTH, acc[q][c]);
}

// to[q] += the sum of n values, each times its weight for query q.
template <int Q, class T>
[[gnu::noinline]] void add_all(const T* value, int64_t ld, int64_t n, int64_t d, const float* const* weights, float* const* to) {
  int64_t j = 0;
  for (; j + 4 * WIDTH <= d; j += 4 * WIDTH) add<Q, 4>(value, ld, n, weights, to, j);
  for (; j + WIDTH <= d; j += WIDTH) add<Q, 1>(value, ld, n, weights, to, j);
  for (; j < d; ++j)
    for (int q = 0; q < Q; ++q)
      for (int64_t k = 0; k < n; ++k) to[q][j] = std::fma(weights[q][k], to_float(value[k * ld + j]), to[q][j]);
}
