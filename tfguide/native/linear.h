// y = x W + b: the product that decoding consists of. Every weight is read once for a few rows, and reading takes the
// time. Each thread of the team computes its own part of the outputs.
#pragma once
#include "dense.h"
#include "packed.h"
#include "rounded.h"
#include "team.h"

// One thread's outputs of all rows.
inline void product(const Linear& m, const Input& input, int64_t rows, float* y, int64_t ldy, Part part) {
  switch (m.format) {
    case F32_ROWS: return rows_product<float>(m, input, rows, y, ldy, part);
    case BF16_ROWS: return rows_product<Bfloat16>(m, input, rows, y, ldy, part);
    case F16_ROWS: return rows_product<Float16>(m, input, rows, y, ldy, part);
    case F32_COLUMNS: return columns_product<float>(m, input, rows, y, ldy, part);
    case BF16_COLUMNS: return columns_product<Bfloat16>(m, input, rows, y, ldy, part);
    case F16_COLUMNS: return columns_product<Float16>(m, input, rows, y, ldy, part);
    case INT8:
    case INT4: return packed_product(m, input, rows, y, ldy, part);
    default: return a8_product(m, input.rounded, rows, y, ldy, part);
  }
}

// A whole product, of any number of rows, by a team.
struct Product {
  const Linear& w;
  const float* x;
  int64_t rows;
  float* y;
  Team& team;
  char* memory;    // the inputs of one pass, prepared
  float* partial;  // the partial sums of each thread, where there are any

  Product(const Linear& linear, const float* from, int64_t n, float* to, Team& t, std::vector<char>& scratch)
      : w(linear), x(from), rows(n), y(to), team(t) {
    const int64_t at_once = std::min(rows, PASS_ROWS), prepared = padded(Input::bytes(at_once, w.in), 64);
    scratch.resize(prepared + (is_columns(w) ? team.size() * std::min(at_once, COLUMN_ROWS) * w.out * 4 : 0) + 64);
    memory = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    partial = reinterpret_cast<float*>(memory + prepared);
  }

  void run(int id) {
    for (int64_t first = 0; first < rows; first += PASS_ROWS) {
      if (first) team.barrier();  // the others may still read the prepared rows of the pass before
      pass(id, x + first * w.in, std::min(PASS_ROWS, rows - first), y + first * w.out);
    }
  }

  void pass(int id, const float* x, int64_t rows, float* y) {
    const int size = team.size();
    Input input(w, x, rows, memory);
    input.prepare(w, inputs_of(w.in, id, size));
    team.barrier();
    const Part part(w.out, id, size);
    const bool parts = in_partial_sums(w, rows);
    if (parts) {
      partial_sums(w, x, w.in, rows, partial + id * rows * w.out, Part(w.in, id, size));
      team.barrier();
    } else {
      product(w, input, rows, y, w.out, part);
    }
    for (int64_t r = 0; (parts || w.bias) && r < rows; ++r)
      for (int64_t o = part.first; o < part.last; ++o) {
        float value = parts ? 0.0f : y[r * w.out + o];
        for (int t = 0; parts && t < size; ++t) value += partial[(t * rows + r) * w.out + o];
        y[r * w.out + o] = value + (w.bias ? w.bias[o] : 0.0f);
      }
  }
};
