// How the threads divide a matrix, and how far ahead they ask for it.
#pragma once
#include <algorithm>

#include "vectors.h"

inline int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The part [first, last) of n numbers that one of `team` threads computes, in multiples of 16.
struct Part {
  int64_t first, last;
  Part(int64_t n, int id, int team) {
    const int64_t units = (n + LANES - 1) / LANES;
    first = std::min(n, units * id / team * LANES);
    last = std::min(n, units * (id + 1) / team * LANES);
  }
};

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
