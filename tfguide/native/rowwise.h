// What stands between the matrix products of a prompt, in one pass over each row: norms, gates, rotations. A framework
// takes a pass for every arithmetic operation in them. Numbers come and go as the framework has them, and are float32
// in between.
#pragma once
#include <vector>

#include "linear.h"

struct Norm { const float *weight, *bias; };  // no weight: no norm
enum Activation { RELU, GELU, GELU_TANH, SWIGLU, GEGLU, GEGLU_TANH };
enum Type { FLOAT32, BFLOAT16, FLOAT16 };
enum Task { NORMALISE, ACTIVATE, ROTATE };

template <class F>
inline void with_type(int type, F&& use) {
  switch (type) {
    case FLOAT32: use(float{}); break;
    case BFLOAT16: use(Bfloat16{}); break;
    default: use(Float16{});
  }
}

inline void normalise(const Norm& norm, int64_t D, bool is_rms, float eps, const float* x, float* y) {
  float mean = 0, square = 0;
  if (!is_rms) {
    for (int64_t i = 0; i < D; ++i) mean += x[i];
    mean /= D;
  }
  Floats squares = {};
  int64_t i = 0;
  for (; i + LANES <= D; i += LANES) {
    const Floats centred = load(x + i) - mean;
    squares += centred * centred;
  }
  square = sum(squares);
  for (; i < D; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(square / D + eps);
  for (i = 0; i < D; ++i) y[i] = (x[i] - mean) * factor * norm.weight[i];
  if (norm.bias)
    for (i = 0; i < D; ++i) y[i] += norm.bias[i];
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

inline Floats bend(int activation, Floats x) {
  switch (activation) {
    case RELU: return x < 0.0f ? Floats{} : x;
    case SWIGLU: return x * sigmoid(x);
    case GELU_TANH:
    case GEGLU_TANH: return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));  // tanh by the sigmoid of 2x
    default:
      for (int i = 0; i < LANES; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
      return x;
  }
}

template <class T>
inline void load_row(const T* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) write(to + i, load(from + i));
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

template <class T>
inline void store_row(const float* from, int64_t n, T* to) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(to + i, load(from + i));
  for (; i < n; ++i) store(to + i, from[i]);
}

// x (rows, width) to y. NORMALISE: width is D. ACTIVATE: y = bend(x) * other, or without other. ROTATE: width is H d,
// each pair (i, i + d / 2) of a head turned by the angle of its row; cosines and sines (rows, d / 2).
struct Rowwise {
  const void *x, *other;
  void* y;
  Norm norm;
  const float *cos, *sin;
  int64_t rows, width, head;
  int32_t task, type, activation, is_rms;
  float eps;

  void run(int id, int team) const {
    with_type(type, [&](auto sample) {
      using T = decltype(sample);
      std::vector<float> memory(2 * width);
      float *a = memory.data(), *b = a + width;
      for (int64_t r = rows * id / team; r < rows * (id + 1) / team; ++r) {
        load_row(static_cast<const T*>(x) + r * width, width, a);
        if (task == NORMALISE) normalise(norm, width, is_rms, eps, a, a);
        if (task == ACTIVATE) {
          if (other) load_row(static_cast<const T*>(other) + r * width, width, b);
          activate(a, other ? b : nullptr);
        }
        if (task == ROTATE) rotate(a, cos + r * head / 2, sin + r * head / 2);
        store_row(a, width, static_cast<T*>(y) + r * width);
      }
    });
  }

 private:
  void activate(float* a, const float* b) const {
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) write(a + i, bend(activation, load(a + i)) * (b ? load(b + i) : all(1.0f)));
    if (i == width) return;
    float rest[LANES] = {};
    std::memcpy(rest, a + i, (width - i) * sizeof(float));
    const Floats bent = bend(activation, load(rest));
    for (int64_t j = 0; i + j < width; ++j) a[i + j] = bent[j] * (b ? b[i + j] : 1.0f);
  }

  void rotate(float* row, const float* c, const float* s) const {
    const int64_t half = head / 2;
    for (float* at = row; at < row + width; at += head)
      for (int64_t i = 0; i < half; ++i) {
        const float first = at[i], second = at[half + i];
        at[i] = first * c[i] - second * s[i];
        at[half + i] = second * c[i] + first * s[i];
      }
  }
};

// The numbers of 16 outputs and STEP inputs of a packed matrix: 4 of INT8, without the scales, or 8 of INT4, with.
template <int STEP>
inline void packed_numbers(const Linear& m, int64_t in, int64_t o, int64_t k, Floats* rows) {
  if (STEP == 4) {
    const Ints four = read<Ints>(static_cast<const int8_t*>(m.weight) + o * in + k * LANES);
    for (int j = 0; j < STEP; ++j) rows[j] = __builtin_convertvector(four << (24 - 8 * j) >> 24, Floats);
  } else {
    const Words eight = read<Words>(static_cast<const uint8_t*>(m.weight) + (o * in + k * LANES) / 2);
    const Floats scale = load(static_cast<const Float16*>(m.scale) + o * (in / m.group) + k / m.group * LANES);
    for (int j = 0; j < STEP; ++j) {
      const Ints value = (Ints)(eight >> (8 * (j & 3) + 4 * (j >> 2)) & 15) - 8;
      rows[j] = __builtin_convertvector(value, Floats) * scale;
    }
  }
}

template <class T, int STEP>
[[gnu::noinline]] void unpack_of(const Linear& m, T* to, Part part) {
  const int64_t in = padded(m.in, STEP);
  for (int64_t o = part.first; o < part.last; o += 2 * LANES) {  // two sixteens: of bfloat16 they fill a cache line
    const int64_t n = std::min<int64_t>(2 * LANES, std::min(part.last, m.out) - o);
    for (int64_t k = 0; k < in; k += STEP) {
      Floats first[STEP], second[STEP];
      T* at = to + k * m.out + o;
      packed_numbers<STEP>(m, in, o, k, first);
      if (n > LANES) packed_numbers<STEP>(m, in, o + LANES, k, second);
      if (n == 2 * LANES && k + STEP <= m.in) {
        for (int j = 0; j < STEP; ++j, at += m.out) {
          store(at, first[j]);
          store(at + LANES, second[j]);
        }
        continue;
      }
      for (int64_t j = 0; j < std::min<int64_t>(STEP, m.in - k); ++j, at += m.out) {
        store_row((const float*)&first[j], std::min<int64_t>(n, LANES), at);
        store_row((const float*)&second[j], n - LANES, at + LANES);
      }
    }
  }
}

// A packed matrix as numbers of type T, (in, out): INT8 without its scales, which are one for each output; INT4 with.
template <class T>
inline void unpack(const Linear& m, T* to, Part part) {
  if (m.format == INT8 || m.format == INT8_A8) return unpack_of<T, 4>(m, to, part);
  unpack_of<T, 8>(m, to, part);
}
