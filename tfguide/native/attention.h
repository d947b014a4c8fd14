// Attention of new tokens to the cache of one layer. T: the type of the cache.
#pragma once
#include "rows.h"
#include "scores.h"
#include "step.h"
#include "types.h"

const Floats COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

template <class T>
struct Attention {
  const Step& s;
  const Model& m;
  T *keys, *values;        // (B, max_length, K, d)
  float *queries, *scores;  // owned by this thread

  // A head at position p: rotated, or copied in a model without rotary positions.
  void place(int64_t p, const float* from, float* to) const {
    const int64_t d = m.d_head;
    if (s.call.cos) {
      rotate(from, d, s.call.cos + p * (d / 2), s.call.sin + p * (d / 2), to);
    } else if (to != from) {
      std::memcpy(to, from, d * sizeof(float));
    }
  }

  T* slot(T* cache, int64_t r, int64_t p, int64_t kv) const {
    const int64_t b = r / s.call.n_tokens;
    return cache + ((b * s.call.max_length + p) * m.n_kv_heads + kv) * m.d_head;
  }

  // Writes the key and the value of head kv of row r into the cache.
  void append(int64_t r, int64_t kv) {
    const int64_t d = m.d_head;
    float* key = s.k + (r * m.n_kv_heads + kv) * d;
    const float* value = s.v + (r * m.n_kv_heads + kv) * d;
    const int64_t p = s.position(r);
    place(p, key, key);
    T *to = slot(keys, r, p, kv), *value_to = slot(values, r, p, kv);
    for (int64_t i = 0; i < d; ++i) store(to + i, key[i]);
    for (int64_t i = 0; i < d; ++i) store(value_to + i, value[i]);
  }

  // The heads [head, head + n_heads) of row r. All heads process a few positions before any goes on to the next ones:
  // the KV cache is read once, from beginning to end, and heads that share keys find them in the processor's cache.
  void attend(int64_t r, int64_t head, int64_t n_heads) {
    const int64_t d = m.d_head, p = s.position(r), group = m.n_heads / m.n_kv_heads;
    const int64_t first = m.window && p >= m.window ? p - m.window + 1 : 0, n = p + 1 - first;
    const int64_t ld = int64_t(m.n_kv_heads) * d, room = padded(n, LANES), wide = padded(d, LANES);
    const T *key = slot(keys, r, first, 0), *value = slot(values, r, first, 0);
    float* to = s.heads + (r * m.n_heads + head) * d;

    for (int64_t h = 0; h < n_heads; ++h) place(p, s.q + (r * m.n_heads + head + h) * d, queries + h * wide);
    for (int64_t i = 0; i < n; i += LANES)
      for (int64_t h = 0; h < n_heads; ++h) {
        const T* from = key + i * ld + (head + h) / group * d;
        Floats found;
        score<1>(queries + h * wide, wide, from, ld, std::min<int64_t>(LANES, n - i), d, m.attention_scale, &found);
        write(scores + h * room + i, m.slopes ? found - m.slopes[head + h] * (float(n - 1 - i) - COUNT) : found);
      }
    for (int64_t h = 0; h < n_heads; ++h) softmax(scores + h * room, n);
    std::memset(to, 0, n_heads * d * sizeof(float));
    for (int64_t i = 0; i < n; i += LANES)
      for (int64_t h = 0; h < n_heads; ++h) {
        const float* weights = scores + h * room + i;
        const T* from = value + i * ld + (head + h) / group * d;
        add_all<1>(from, ld, std::min<int64_t>(LANES, n - i), d, weights, 0, to + h * d, 0);
      }
  }

  // A prompt: a few queries of one head at a time, which see the same keys except for the last ones. The order of
  // operations for a query is that of `attend`, so that no result depends on the other rows.
  void attend_prompt(int id, int size) {
    const int64_t tiles = (s.call.n_tokens + QUERIES - 1) / QUERIES, units = s.call.batch * tiles * m.n_heads;
    for (int64_t u = id; u < units; u += size) {  // interleaved, because later queries see more keys
      const int64_t head = u % m.n_heads, tile = u / m.n_heads, first = tile % tiles * QUERIES;
      const int64_t r = tile / tiles * s.call.n_tokens + first, n = std::min<int64_t>(QUERIES, s.call.n_tokens - first);
      if (n == QUERIES && !(m.window && s.position(r + n - 1) >= m.window)) {
        attend_together<QUERIES>(r, head);
      } else {
        for (int64_t i = 0; i < n; ++i) attend(r + i, head, 1);
      }
    }
  }

  template <int Q>
  void attend_together(int64_t r, int64_t head) {
    const int64_t d = m.d_head, p = s.position(r), group = m.n_heads / m.n_kv_heads, all_see = p + 1, n = p + Q;
    const int64_t ld = int64_t(m.n_kv_heads) * d, room = padded(n, LANES), wide = padded(d, LANES);
    const T *key = slot(keys, r, 0, head / group), *value = slot(values, r, 0, head / group);
    float* to = s.heads + (r * m.n_heads + head) * d;
    const int64_t next = int64_t(m.n_heads) * d;

    for (int q = 0; q < Q; ++q) place(p + q, s.q + ((r + q) * m.n_heads + head) * d, queries + q * wide);
    for (int64_t i = 0; i < n; i += LANES) {
      Floats found[Q];
      score<Q>(queries, wide, key + i * ld, ld, std::min<int64_t>(LANES, n - i), d, m.attention_scale, found);
      for (int q = 0; q < Q; ++q)
        write(scores + q * room + i, m.slopes ? found[q] - m.slopes[head] * (float(p + q - i) - COUNT) : found[q]);
    }
    for (int q = 0; q < Q; ++q) {
      softmax(scores + q * room, all_see + q);
      std::memset(to + q * next, 0, d * sizeof(float));
    }
    add_all<Q>(value, ld, all_see, d, scores, room, to, next);
    for (int q = 1; q < Q; ++q)
      add_all<1>(value + all_see * ld, ld, q, d, scores + q * room + all_see, room, to + q * next, next);
  }

};
