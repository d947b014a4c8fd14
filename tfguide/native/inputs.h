// What a product reads: rows x, and the same rows in the form that the format of the weights needs.
#pragma once
#include "abi.h"
#include "parts.h"

inline bool is_columns(const Linear& m) { return m.format >= F32_COLUMNS && m.format <= F16_COLUMNS; }
inline bool is_a8(const Linear& m) { return m.format >= INT8_A8; }

// Rows rounded to 8 bits, q (rows, in), with a scale and the sum of q for each block of inputs.
struct Rounded {
  int8_t* q;
  float* scale;
  int32_t* sum_;
  int64_t ld, blocks;

  static int64_t bytes(int64_t rows, int64_t in) {
    const int64_t blocks = padded(in, ACTIVATION_BLOCK) / ACTIVATION_BLOCK;
    return rows * blocks * (ACTIVATION_BLOCK + sizeof(float) + sizeof(int32_t)) + 64;
  }
  Rounded(void* memory, int64_t rows, int64_t in) : ld(padded(in, ACTIVATION_BLOCK)), blocks(ld / ACTIVATION_BLOCK) {
    scale = static_cast<float*>(memory);
    sum_ = reinterpret_cast<int32_t*>(scale + rows * blocks);
    q = reinterpret_cast<int8_t*>(sum_ + rows * blocks);
  }
  void take(const float* x, int64_t in, int64_t row) {
    for (int64_t b = 0; b < blocks; ++b) {
      float buffer[ACTIVATION_BLOCK] = {0};
      const float* from = x + b * ACTIVATION_BLOCK;
      if (in < (b + 1) * ACTIVATION_BLOCK)
        from = static_cast<float*>(std::memcpy(buffer, from, (in - b * ACTIVATION_BLOCK) * sizeof(float)));
      Floats most = {}, not_finite = {};
      for (int i = 0; i < ACTIVATION_BLOCK; i += WIDTH) {
        most = larger(magnitude(load(from + i)), most);
        not_finite += load(from + i) * 0.0f;  // a NaN or an infinity times 0 is NaN
      }
      const float size = maximum(most), inverse = size > 0 ? 127.0f / size : 0;
      Ints total = {};
      for (int i = 0; i < ACTIVATION_BLOCK; i += WIDTH) {
        const Ints integers = rounded(load(from + i) * inverse);
        store(q + row * ld + b * ACTIVATION_BLOCK + i, integers);
        total += integers;
      }
      // A NaN or an infinity makes the scale NaN, and with it every output that reads the block.
      const bool finite = size <= 3.4e38f && sum(not_finite) == 0.0f;
      scale[row * blocks + b] = finite ? size / 127.0f : NAN;
      sum_[row * blocks + b] = int32_t(sum(total));
    }
  }
};

// Each 2 * WIDTH numbers of x with the even ones first: the order of the words of bfloat16 weights.
inline void split_pairs(const float* x, int64_t in, float* halves) {
  for (int64_t k = 0; k + 2 * WIDTH <= in; k += 2 * WIDTH)
    for (int i = 0; i < WIDTH; ++i) {
      halves[k + i] = x[k + 2 * i];
      halves[k + WIDTH + i] = x[k + 2 * i + 1];
    }
}

// Rows x (rows, in), and x prepared for the format of the weights.
struct Input {
  const float* x;
  int64_t ld;
  Rounded rounded;  // for A8
  float* halves;    // for BF16_ROWS, in the same memory

  static int64_t bytes(int64_t rows, int64_t in) { return rows * padded(in, ACTIVATION_BLOCK) * 5 + 64; }
  Input(const float* from, int64_t rows, int64_t in, void* memory)
      : x(from), ld(in), rounded(memory, rows, in), halves(static_cast<float*>(memory)) {}

  void prepare(const Linear& m, int64_t row) {
    if (is_a8(m)) rounded.take(x + row * ld, m.in, row);
    if (m.format == BF16_ROWS) split_pairs(x + row * ld, m.in, halves + row * ld);
  }
};
