// How the threads divide a matrix, how many rows are multiplied together, and how far ahead the kernels ask for memory.
#pragma once
#include <algorithm>
#include <type_traits>

#include "vectors.h"

inline int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The part [first, last) of n numbers that one of `team` threads computes, in multiples of `unit`.
struct Part {
  int64_t first, last;
  Part(int64_t n, int id, int team, int64_t unit = LANES) {
    const int64_t units = (n + unit - 1) / unit;
    first = std::min(n, units * id / team * unit);
    last = std::min(n, units * (id + 1) / team * unit);
  }
};

template <int N>
using Constant = std::integral_constant<int, N>;

template <int MOST, class F>
inline void with_constant(int64_t n, F&& act) {
  if constexpr (MOST == 1) {
    act(Constant<1>{});
  } else if (n == MOST) {
    act(Constant<MOST>{});
  } else {
    with_constant<MOST - 1>(n, act);
  }
}

// Rows that are multiplied together. `rows` rows are divided into tiles of at most `most`, of nearly equal sizes.
struct RowTile { int64_t first, rows; };
inline RowTile row_tile(int64_t t, int64_t rows, int64_t most) {
  const int64_t tiles = (rows + most - 1) / most, first = rows * t / tiles;
  return {first, rows * (t + 1) / tiles - first};
}

// Calls act(R, row) for all tiles: R, a constant, rows from `row` on.
template <int MOST, class F>
inline void in_tiles(int64_t rows, F&& act) {
  for (int64_t t = 0; t < (rows + MOST - 1) / MOST; ++t) {
    const RowTile tile = row_tile(t, rows, MOST);
    with_constant<MOST>(tile.rows, [&](auto R) { act(R, tile.first); });
  }
}

// The processor prefetches by itself, but not past the end of a page of 4 KB, and not far enough: so the kernels
// prefetch. AMD's processors need no help where a thread reads one row after the other and does little else: there
// prefetching costs up to a quarter of the speed, and two rows at once are read at half of it. So on them the kernels
// prefetch only where the arithmetic between two cache lines is long.
#ifndef IS_AMD
#define IS_AMD 0
#endif
constexpr int AHEAD = 2048;  // bytes
enum Work { LITTLE = 0, LONG = 99 };  // between two lines; or the number of rows x that a weight is multiplied with
template <int WORK>
inline void fetch(const void* at) {
  if (!IS_AMD || WORK > 2) __builtin_prefetch(static_cast<const char*>(at) + AHEAD);
}

// With several rows, the weights of the next outputs are asked for while those of the present ones are multiplied: a
// few cache lines in every step of every tile. So the memory is never idle while a thread computes, nor the other way.
struct Ahead {
  const char* at;
  int64_t lines;  // in a step

  // bytes: of the present weights, for one step; tiles: how many tiles of rows multiply them; 0: ask for nothing.
  Ahead(const void* next, int64_t bytes, int64_t tiles)
      : at(static_cast<const char*>(next)), lines(tiles ? (bytes + 64 * tiles - 1) / (64 * tiles) : 0) {}

  void step() {
    for (int64_t i = 0; i < lines; ++i, at += 64) __builtin_prefetch(at, 0, 3);
  }
};
