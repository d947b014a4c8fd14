// A block of keys and values, arranged for many queries. Their scores, and their sums over the values, are then products
// of small matrices, whose sums stay in registers and need no addition across lanes.
#pragma once
#include "inputs.h"
#include "scores.h"
#include "types.h"

// Numbers are multiplied in words of 32 bits: one of float32, or two of bfloat16.
struct Single {
  static constexpr int NUMBERS = 1;
  static Floats add_product(Floats acc, Words a, Words b) { return acc + (Floats)a * (Floats)b; }
  static void round(const float* from, int64_t n, uint32_t* to) { std::memmove(to, from, n * sizeof(float)); }
  static Words words(Floats x, Floats) { return (Words)x; }
};

#if defined(HAS_DOT_BFLOAT16)
struct Pairs {
  static constexpr int NUMBERS = 2;
  static Floats add_product(Floats acc, Words a, Words b) { return dot_pairs(acc, a, b); }
  static void round(const float* from, int64_t n, uint32_t* to) {  // n numbers, and a zero where n is odd
    Bfloat16* at = reinterpret_cast<Bfloat16*>(to);
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store(at + i, load(from + i));
    for (; i < n; ++i) store(at + i, from[i]);
    if (n % 2) at[n] = Bfloat16{0};
  }
  static Words words(Floats low, Floats high) { return upper_half(low) >> 16 | (upper_half(high) & 0xffff0000u); }

 private:
  static Words upper_half(Floats x) { return (Words)x + 0x7fff + ((Words)x >> 16 & 1); }  // rounded; x is finite
};
#endif

constexpr int64_t LD_BLOCK = BLOCK + LANES;  // no power of two: the words of a key fall into different sets of the cache

// y (R, C registers) = x (R, in) w (in, C registers), in words.
template <class A, int C, int R>
[[gnu::noinline]] void block_product(const uint32_t* w, int64_t ldw, int64_t in, const uint32_t* x, int64_t ldx, float* y,
                                     int64_t ldy) {
  Floats acc[R][C] = {};
  for (int64_t k = 0; k < in; ++k, w += ldw) {
    Words some[C];
    for (int c = 0; c < C; ++c) some[c] = read<Words>(w + c * WIDTH);
    for (int r = 0; r < R; ++r) {
      const Words one = Words{} + x[r * ldx + k];
      for (int c = 0; c < C; ++c) acc[r][c] = A::add_product(acc[r][c], some[c], one);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) write(y + r * ldy + c * WIDTH, acc[r][c]);
}

// The keys and values of one head in one block, and memory for TILE_R queries. Where `is_shared`, what the cache has as
// a value is also the first part of the key.
template <class A>
struct ArrangedBlock {
  int64_t d, d_value;      // of a query and a key, and of a value, which is no longer
  int64_t wide, words;     // wide: d in whole groups; words: of a key
  bool is_shared;
  uint32_t *keys;          // (words, LD_BLOCK): a column is a key
  uint32_t *values;        // (BLOCK / NUMBERS, wide): a word holds the same number of NUMBERS values
  uint32_t *query;         // (TILE_R, wide)
  float *scores, *sums;    // (TILE_R, LD_BLOCK), (TILE_R, wide)
  bool finite = true;      // whether all values are: a weight of 0 hides no other

  static int64_t numbers(int64_t d) {
    const int64_t wide = padded(d, LANES);
    return wide * (LD_BLOCK + BLOCK + 2 * TILE_R) + TILE_R * LD_BLOCK;
  }
  ArrangedBlock(int64_t d, int64_t d_value, bool is_shared, float* memory)
      : d(d), d_value(d_value), wide(padded(d, LANES)), words((d + A::NUMBERS - 1) / A::NUMBERS), is_shared(is_shared) {
    keys = reinterpret_cast<uint32_t*>(memory);
    values = keys + wide * LD_BLOCK;
    query = values + wide * BLOCK;
    sums = reinterpret_cast<float*>(query + TILE_R * wide);
    scores = sums + TILE_R * wide;
  }

  // Arranges the positions [first, last) of a head from a cache of K heads: position p lies at + p K. The scales are of
  // an 8-bit cache, else null. `finite` is made false where a value is not.
  template <class T>
  [[gnu::noinline]] void take(const T* key, const T* value, const float* key_scale, const float* value_scale, int64_t K,
                              int64_t at, int64_t first, int64_t last) {
    float *low = sums, *high = low + wide;  // free until there are weights
    const auto read = [&](const T* from, int64_t n, const float* scales, int64_t p, float* to) {
      fetch_position(from + (at + (p + POSITIONS_AHEAD) * K) * n, n);
      load_row(from + (at + p * K) * n, n, to);
      for (int64_t j = 0; scales && j < n; ++j) to[j] *= scales[at + p * K];
    };
    const int64_t before = is_shared ? d_value : 0;
    for (int64_t p = first; p < last; ++p) {
      if (is_shared) read(value, d_value, value_scale, p, low);
      read(key, d - before, key_scale, p, low + before);
      A::round(low, d, query);
      for (int64_t i = 0; i < words; ++i) keys[i * LD_BLOCK + p] = query[i];
    }
    std::memset(low, 0, 2 * wide * sizeof(float));
    Floats broken = {};  // NaN if a value is NaN or infinite
    for (int64_t p = first; p < last; p += A::NUMBERS) {
      read(value, d_value, value_scale, p, low);
      if (p + 1 < last) {
        read(value, d_value, value_scale, p + 1, high);
      } else {
        std::memset(high, 0, d_value * sizeof(float));
      }
      for (int64_t j = 0; j < wide; j += WIDTH) {
        const Floats a = load(low + j), b = load(high + j);
        broken += a * 0.0f + b * 0.0f;
        write(values + p / A::NUMBERS * wide + j, A::words(a, b));
      }
    }
    finite &= sum(broken) == 0.0f;
  }

  // The scores of R queries at the positions [first, last); others beside them are written, too.
  template <int R>
  void score(int64_t first, int64_t last) {
    constexpr int C = COLUMN_C;
    static_assert(BLOCK % (C * WIDTH) == 0, "a block is a whole number of tiles");
    for (int64_t i = first / (C * WIDTH) * (C * WIDTH); i < last; i += C * WIDTH)
      block_product<A, C, R>(keys + i, LD_BLOCK, words, query, wide, scores + i, LD_BLOCK);
  }

  // The sums of R queries over the values at [first, last); `scores` hold the weights, 0 where a query sees nothing.
  template <int R>
  void add(int64_t first, int64_t last) {
    constexpr int C = COLUMN_C;
    const int64_t from = first / A::NUMBERS, n = (last + A::NUMBERS - 1) / A::NUMBERS - from;
    const uint32_t *weights = reinterpret_cast<const uint32_t*>(scores) + from, *value = values + from * wide;
    const int64_t most = padded(d_value, LANES);
    int64_t j = 0;
    for (; j + C * WIDTH <= most; j += C * WIDTH)
      block_product<A, C, R>(value + j, wide, n, weights, LD_BLOCK, sums + j, wide);
    for (; j < most; j += WIDTH) block_product<A, 1, R>(value + j, wide, n, weights, LD_BLOCK, sums + j, wide);
  }
};
