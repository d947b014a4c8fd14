// The arithmetic of attention: products of queries with keys, and weighted sums of values.
#pragma once
#include "parts.h"

// The positions of a head lie K d apart in the cache. No processor prefetches such a pattern past the end of a page.
constexpr int64_t POSITIONS_AHEAD = 16;
template <class T>
inline void fetch_position(const T* at, int64_t n) {
  for (int64_t j = 0; j < n; j += 64 / int64_t(sizeof(T))) __builtin_prefetch(at + j);
}

// parts[q][i + k], whose sum is the product of query q and key i + k.
template <int Q, int K, class T>
inline void dots(const float* query, int64_t wide, const T* key, int64_t ld, int64_t i, int64_t d,
                 Floats (*parts)[LANES]) {
  const T* at = key + i * ld;
  for (int k = 0; Q == 1 && k < K; ++k) fetch_position(at + (k + POSITIONS_AHEAD) * ld, d);
  Floats acc[Q][K] = {};
  int64_t j = 0;
  for (; j + LANES <= d; j += LANES) {
    Floats some[K];
    for (int k = 0; k < K; ++k) some[k] = load(at + k * ld + j);
    for (int q = 0; q < Q; ++q) {
      const Floats one = load(query + q * wide + j);
      for (int k = 0; k < K; ++k) acc[q][k] += one * some[k];
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int k = 0; k < K; ++k) {
      float rest = 0;  // std::fma: the compiler may contract a product and a sum for one Q and not for another
      for (int64_t o = j; o < d; ++o) rest = std::fma(query[q * wide + o], to_float(at[k * ld + o]), rest);
      acc[q][k][0] += rest;
      parts[q][i + k] = acc[q][k];
    }
}

// Q queries, `wide` numbers apart, with up to 16 keys.
template <int Q, class T>
inline void score(const float* query, int64_t wide, const T* key, int64_t ld, int64_t n, int64_t d, float scale,
                  Floats* found) {
  Floats parts[Q][LANES];
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) dots<Q, 4>(query, wide, key, ld, i, d, parts);  // a loaded query serves four keys
  for (; i < n; ++i) dots<Q, 1>(query, wide, key, ld, i, d, parts);
  for (int q = 0; q < Q; ++q) {
    for (i = n; i < LANES; ++i) parts[q][i] = Floats{};
    found[q] = sums(parts[q]) * scale;
  }
}

template <int Q, int N, class T>
inline void add(const T* value, int64_t ld, int64_t n, const float* weights, int64_t room, float* to, int64_t next) {
  Floats acc[Q][N];
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < N; ++c) acc[q][c] = load(to + q * next + c * LANES);
  for (int64_t i = 0; i < n; ++i) {
    if (Q == 1) fetch_position(value + (i + POSITIONS_AHEAD) * ld, N * LANES);
    for (int c = 0; c < N; ++c) {
      const Floats some = load(value + i * ld + c * LANES);
      for (int q = 0; q < Q; ++q) acc[q][c] += some * weights[q * room + i];
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < N; ++c) write(to + q * next + c * LANES, acc[q][c]);
}

// to += the weighted sum of n values, for Q queries: their weights lie `room` apart, their results `next`.
template <int Q, class T>
inline void add_all(const T* value, int64_t ld, int64_t n, int64_t d, const float* weights, int64_t room, float* to,
                    int64_t next) {
  int64_t j = 0;
  for (; j + 4 * LANES <= d; j += 4 * LANES) add<Q, 4>(value + j, ld, n, weights, room, to + j, next);
  for (; j + LANES <= d; j += LANES) add<Q, 1>(value + j, ld, n, weights, room, to + j, next);
  for (; j < d; ++j)
    for (int q = 0; q < Q; ++q) {
      float* sum = to + q * next + j;
      for (int64_t k = 0; k < n; ++k) *sum = std::fma(weights[q * room + k], to_float(value[k * ld + j]), *sum);
    }
}
