// One thread's part of the products of a step, whose rows and results lie in the memory of the step.
#pragma once
#include "linear.h"
#include "step.h"

class Products {
 protected:
  Step& s;
  const Model& m;
  const int id, size;
  float *products, *for_attention, *h;
  void* for_input;
  int set = 0;
  int64_t rows;  // of a product: all, or those that chose an expert

  Products(Step& step, int id) : s(step), m(step.m), id(id), size(step.team.size()), rows(step.rows) {
    products = reinterpret_cast<float*>(s.own + id * s.bytes_each);
    for_attention = products + padded(s.rows * s.share, LANES);
    h = s.many ? s.h : for_attention + s.attention_numbers;
    for_input = s.many ? static_cast<void*>(s.input) : h + s.normed + s.mixtures.numbers(m.d_model);
  }

  template <class F>
  void each_row(F&& act) {
    for (int64_t r = id; r < s.rows; r += size) act(r);
    s.team.barrier();
  }

  // The inputs of a product that this thread prepares: all of them, or where there are many rows, its share.
  Part own_inputs(int64_t n) const { return s.many ? inputs_of(n, id, size) : Part(n, 0, 1); }

  // y = input W + b, or y += input W + b where `adds`: this thread's part of the outputs.
  void multiply(const Linear& w, const Input& input, float* y, bool adds) {
    const Part part(w.out, id, size);
    if (!in_partial_sums(w, rows)) {
      const int64_t ld = part.last - part.first;
      if (adds) {
        product(w, input, rows, products - part.first, ld, part);  // output o lies at products - part.first + o
        add_shares(w, products - part.first, ld, 1, 0, y, part);
      } else {
        product(w, input, rows, y, w.out, part);
        for (int64_t r = 0; w.bias && r < rows; ++r)
          for (int64_t o = part.first; o < part.last; ++o) y[r * w.out + o] += w.bias[o];
      }
      return;
    }
    const int64_t stride = padded(COLUMN_ROWS * s.widest, LANES);
    float* sums = s.partial + set * size * stride;
    set ^= 1;  // the other threads may still be adding up the partial sums of the product before
    partial_sums(w, input.x, w.in, rows, sums + id * stride, Part(w.in, id, size));
    s.team.barrier();
    for (int64_t r = 0; !adds && r < rows; ++r)
      std::memset(y + r * w.out + part.first, 0, (part.last - part.first) * sizeof(float));
    add_shares(w, sums, w.out, size, stride, y, part);
  }

  // y += b and the shares of each row, which lie ld apart, in a thread's part of the outputs.
  void add_shares(const Linear& w, const float* from, int64_t ld, int shares, int64_t stride, float* y, Part part) {
    for (int64_t r = 0; r < rows; ++r) {
      float* to = y + r * w.out;
      for (int share = 0; share < shares; ++share) {
        const float* at = from + share * stride + r * ld;
        for (int64_t o = part.first; o < part.last; ++o) to[o] += at[o];
      }
      for (int64_t o = part.first; w.bias && o < part.last; ++o) to[o] += w.bias[o];
    }
  }

  // The input, prepared for the format of these weights.
  Input prepared(const Linear& w, const float* x) { return prepared(w, x, for_input); }
  Input prepared(const Linear& w, const float* x, void* memory) {
    Input input(w, x, rows, memory);
    input.prepare(w, own_inputs(w.in));
    if (s.many) s.team.barrier();
    return input;
  }

  // The same for the next matrix that reads these rows: a file may keep the matrices of a layer in several formats.
  const Input& prepared_again(const Linear& w, const Linear& before, Input& input) {
    if (w.format == before.format || (is_a8(w) && is_a8(before))) return input;
    if (s.many) s.team.barrier();  // the others may still read the rows prepared before
    return input = prepared(w, input.x, input.memory);
  }
};
