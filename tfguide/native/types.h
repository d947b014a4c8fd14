// Conversion of rows in one of a framework's types to float32 and back.
#pragma once
#include "abi.h"
#include "vectors.h"

template <class F>
inline void with_type(int type, F&& use) {
  switch (type) {
    case FLOAT32: use(float{}); break;
    case BFLOAT16: use(Bfloat16{}); break;
    default: use(Float16{});
  }
}

template <class T>
inline void load_row(const T* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + WIDTH <= n; i += WIDTH) write(to + i, load(from + i));
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

template <class T>
inline void store_row(const float* from, int64_t n, T* to) {
  int64_t i = 0;
  for (; i + WIDTH <= n; i += WIDTH) store(to + i, load(from + i));
  for (; i < n; ++i) store(to + i, from[i]);
}
