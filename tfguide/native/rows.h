// The computations on one row of activations in float32: norms, activations, rotations.
#pragma once
#include "abi.h"
#include "parts.h"

// The outputs [first, last) of a row of D; the sums are over the whole row.
inline void normalise(const Norm& norm, int64_t D, bool is_rms, float eps, const float* x, float* y, int64_t first,
                      int64_t last) {
  float mean = 0, square = 0;
  if (!is_rms) {
    for (int64_t i = 0; i < D; ++i) mean += x[i];
    mean /= D;
  }
  Floats squares = {};
  int64_t i = 0;
  for (; i + WIDTH <= D; i += WIDTH) {
    const Floats centred = load(x + i) - mean;
    squares += centred * centred;
  }
  square = sum(squares);
  for (; i < D; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(square / D + eps);
  for (i = first; i < last; ++i) y[i] = (x[i] - mean) * factor * norm.weight[i];
  for (i = first; norm.bias && i < last; ++i) y[i] += norm.bias[i];
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

inline Floats hyperbolic_tangent(Floats x) {
  const Floats positive = x < 0.0f ? -x : x, e = exponential(-2.0f * positive), y = (1.0f - e) / (1.0f + e);
  return x < 0.0f ? -y : y;
}

inline Floats activated(int activation, Floats x) {
  switch (activation) {
    case RELU: return x < 0.0f ? Floats{} : x;
    case SWIGLU: return x * sigmoid(x);
    case GELU_TANH:
    case GEGLU_TANH: return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));  // tanh from the sigmoid of 2x
    default:
      for (int i = 0; i < WIDTH; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
      return x;
  }
}

// Rotates the first d numbers of a head: each pair (i, i + d / 2) by the i-th of d / 2 angles. `from` may be `to`.
inline void rotate(const float* from, int64_t d, const float* cos, const float* sin, float* to) {
  const int64_t half = d / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float first = from[i], second = from[half + i];
    to[i] = first * cos[i] - second * sin[i];
    to[half + i] = second * cos[i] + first * sin[i];
  }
}
