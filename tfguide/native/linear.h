// y = x W + b: the product that decoding consists of. Every weight is read once for a few rows, and reading takes the
// time. Each thread of the team computes its own part of the outputs.
#pragma once
#include "dense.h"
#include "packed.h"
#include "rounded.h"
#include "team.h"

constexpr int64_t TILE_ROWS = 8;  // rows that a weight is multiplied with while it is in a register

// The outputs [o, o + 16) of the rows [row, row + R), into y (rows, ldy).
template <int R>
inline void sixteen(const Linear& m, int64_t o, const Input& input, int64_t row, float* y, int64_t ldy) {
  const int64_t n = std::min<int64_t>(LANES, m.out - o), ld = input.ld;
  const float* x = input.x + row * ld;
  Floats values[R];
  switch (m.format) {
    case F32_ROWS: return rows_of<float, R>(m, o, n, x, ld, y, ldy);
    case BF16_ROWS: return pairs_of<R>(m, o, n, x, ld, input.halves + row * ld, y, ldy);
    case F16_ROWS: return rows_of<Float16, R>(m, o, n, x, ld, y, ldy);
    case INT8: int8_of<R>(m, o, x, ld, values); break;
    default: int4_of<R>(m, o, x, ld, values);
  }
  for (int r = 0; r < R; ++r) std::memcpy(y + r * ldy + o, &values[r], n * sizeof(float));
}

// One thread's outputs of all rows. The weights of 16 outputs stay in the cache while they multiply tile after tile.
inline void product(const Linear& m, const Input& input, int64_t rows, float* y, int64_t ldy, Part part) {
  if (is_a8(m)) return a8_product(m, input.rounded, rows, y, ldy, part);
  for (int64_t o = part.first; o < part.last; o += LANES)
    for (int64_t r = 0; r < rows; r += TILE_ROWS) {
      float* to = y + r * ldy;
      switch (std::min(rows - r, TILE_ROWS)) {
        case 1: sixteen<1>(m, o, input, r, to, ldy); break;
        case 2: sixteen<2>(m, o, input, r, to, ldy); break;
        case 3: sixteen<3>(m, o, input, r, to, ldy); break;
        case 4: sixteen<4>(m, o, input, r, to, ldy); break;
        case 5: sixteen<5>(m, o, input, r, to, ldy); break;
        case 6: sixteen<6>(m, o, input, r, to, ldy); break;
        case 7: sixteen<7>(m, o, input, r, to, ldy); break;
        default: sixteen<8>(m, o, input, r, to, ldy);
      }
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
  float* partial;  // COLUMNS: the partial sums of each thread

  Product(const Linear& linear, const float* from, int64_t n, float* to, Team& t, std::vector<char>& scratch)
      : w(linear), x(from), rows(n), y(to), team(t) {
    const int64_t at_once = std::min(rows, PASS_ROWS), prepared = padded(Input::bytes(at_once, w.in), 64);
    scratch.resize(prepared + (is_columns(w) ? team.size() * at_once * w.out * 4 : 0) + 64);
    memory = scratch.data();
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
    Input input(x, rows, w.in, memory);
    for (int64_t r = id; r < rows; r += size) input.prepare(w, r);
    team.barrier();
    const Part part(w.out, id, size);
    if (is_columns(w)) {
      partial_sums(w, x, w.in, rows, partial + id * rows * w.out, Part(w.in, id, size));
      team.barrier();
    } else {
      product(w, input, rows, y, w.out, part);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = part.first; o < part.last; ++o) {
        float value = is_columns(w) ? 0.0f : y[r * w.out + o];
        for (int t = 0; is_columns(w) && t < size; ++t) value += partial[(t * rows + r) * w.out + o];
        y[r * w.out + o] = value + (w.bias ? w.bias[o] : 0.0f);
      }
  }
};
