// Products with one head's part of a matrix, where it lies: some outputs of many. Latent attention multiplies a query by
// the transpose of such a part, and the mean of the latents by another. x is float32 and is not rounded. The sums of a
// row are the same, in the same order, whatever the number of rows and threads.
#pragma once
#include "unpack.h"

// Weights as K vectors of `lanes` numbers that follow each other in memory, taken STEP vectors at a time. `shift` lanes
// before the first one are read with it, since packed weights are read in whole registers; they meet zeros in x.
template <class T>
struct DenseLanes {
  static constexpr int STEP = 4;
  const T* w;
  int64_t ld, lanes, shift = 0;

  // A register of each of the vectors k to k + n; zeros instead of those after them.
  void take(int64_t k, int64_t n, int64_t lane, Floats* to) const {
    const T* at = w + k * ld + lane;
    const int64_t here = lanes - lane;
    for (int j = 0; j < STEP; ++j, at += ld) {
      if (j >= n) {
        to[j] = Floats{};
      } else if (here >= WIDTH) {
        to[j] = load(at);
      } else {  // beyond them the matrix may end
        T some[WIDTH] = {};
        std::memcpy(some, at, here * sizeof(T));
        to[j] = load(some);
      }
    }
  }
  void fetch_after(int64_t k, int64_t lane) const {
    constexpr int DEEP = 16;  // vectors ahead
    for (int j = 0; j < STEP; ++j) __builtin_prefetch(w + (k + DEEP + j) * ld + lane);
  }
};

// Packed weights, whose lanes are outputs: of 8 bits 4 inputs at a time, of 4 bits 8. Without scales of outputs.
template <int INPUTS>
struct PackedLanes {
  static constexpr int STEP = INPUTS;
  const Linear& m;
  int64_t lanes, shift, first;  // first: the output that is lane 0
  std::vector<Scales> scales;   // of each group of 16 outputs

  PackedLanes(const Linear& m, int64_t o, int64_t n) : m(m), lanes(n), shift(o % WIDTH), first(o - shift) {
    for (int64_t at = o / LANES * LANES; at < o + n; at += LANES) scales.emplace_back(m, at);
  }
  void take(int64_t k, int64_t, int64_t lane, Floats* to) const {
    const int64_t o = first + lane;
    packed_numbers<STEP>(m, scales[o / LANES - first / LANES], padded(m.in, STEP), o, k, to);
  }
  void fetch_after(int64_t, int64_t) const {}
};

// C registers from `lane` on of sums over all K vectors, for R rows x.
template <int R, int C, class W>
[[gnu::noinline]] void sum_vectors(const W& w, int64_t K, int64_t lane, const float* x, int64_t ldx, Floats* y) {
  Floats acc[R][C] = {};
  for (int64_t k = 0; k < K; k += W::STEP)
    for (int c = 0; c < C; ++c) {
      Floats some[W::STEP];
      w.take(k, K - k, lane + c * WIDTH, some);
      if (R == 1) w.fetch_after(k, lane + c * WIDTH);
      for (int j = 0; j < W::STEP; ++j)
        for (int r = 0; r < R; ++r) acc[r][c] += some[j] * x[r * ldx + k + j];
    }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) y[r * C + c] = acc[r][c];
}

// The sums over all lanes of the vectors k to k + n, at most STEP, for R rows x.
template <int R, class W>
[[gnu::noinline]] void sum_lanes(const W& w, int64_t k, int64_t n, const float* x, int64_t ldx, float* y) {
  Floats acc[R][W::STEP] = {};
  for (int64_t lane = 0; lane < w.shift + w.lanes; lane += WIDTH) {
    Floats some[W::STEP];
    w.take(k, n, lane, some);
    for (int r = 0; r < R; ++r) {
      const Floats one = load(x + r * ldx + lane);
      for (int j = 0; j < W::STEP; ++j) acc[r][j] += some[j] * one;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < W::STEP; j += 4) write_sum4(y + r * W::STEP + j, sum4(acc[r] + j));
}

// Rows x and y of a product with a part of a matrix, ldx and ldy apart, and memory for `numbers`.
struct PartRows {
  const float* x;
  int64_t ldx;
  float* y;
  int64_t ldy, rows;
  float* memory;

  static constexpr int MOST = REGISTERS / 8;  // rows that are multiplied together
  static int64_t numbers(int64_t inputs) { return MOST * (inputs + 4 * LANES); }
};

// The results [part.first, part.last) of K vectors of weights. over_vectors: whether they are sums over the vectors, one
// for each lane, or sums over the lanes, one for each vector. scale: of the lanes, or null.
template <class W>
inline void multiply_lanes(const W& w, int64_t K, bool over_vectors, const float* scale, const PartRows& p, Part part) {
  constexpr int MOST = W::STEP == 8 ? PartRows::MOST / 2 : PartRows::MOST, C = COLUMN_C;
  const int64_t inputs = over_vectors ? K : w.lanes, shift = over_vectors ? 0 : w.shift;
  const int64_t ld = padded(shift + inputs, 2 * LANES);
  in_tiles<MOST>(p.rows, [&](auto R, int64_t row) {
    float *x = p.memory, *y = p.y + row * p.ldy;
    std::memset(x, 0, R() * ld * sizeof(float));
    for (int r = 0; r < R(); ++r)
      for (int64_t i = 0; i < inputs; ++i)
        x[r * ld + shift + i] = p.x[(row + r) * p.ldx + i] * (scale && !over_vectors ? scale[i] : 1.0f);
    if (!over_vectors) {
      for (int64_t k = part.first; k < part.last; k += W::STEP) {
        float sums[R() * W::STEP];
        const int64_t n = std::min<int64_t>(W::STEP, part.last - k);
        sum_lanes<R()>(w, k, n, x, ld, sums);
        for (int r = 0; r < R(); ++r) std::memcpy(y + r * p.ldy + k, sums + r * W::STEP, n * sizeof(float));
      }
      return;
    }
    const auto registers = [&](auto N, int64_t lane) {
      Floats sums[R() * N()];
      sum_vectors<R(), N()>(w, K, lane, x, ld, sums);
      const float* from = reinterpret_cast<const float*>(sums);
      const int64_t first = lane - w.shift, wide = N() * WIDTH;  // the result in lane 0
      for (int r = 0; r < R(); ++r)
        for (int64_t j = std::max(first, part.first); j < std::min(first + wide, part.last); ++j)
          y[r * p.ldy + j] = from[r * wide + j - first] * (scale ? scale[j] : 1.0f);
    };
    int64_t lane = (w.shift + part.first) / WIDTH * WIDTH;
    const int64_t last = w.shift + part.last;
    for (; lane + C * WIDTH <= last; lane += C * WIDTH) registers(Constant<C>{}, lane);
    for (; lane < last; lane += WIDTH) registers(Constant<1>{}, lane);
  });
}

// The outputs [o, o + n) of a matrix: from its inputs to them, or `transposed`, from them to the inputs. `part`: of the
// results. No bias is added.
inline void multiply_part(const Linear& m, int64_t o, int64_t n, bool transposed, const PartRows& p, Part part) {
  const auto dense = [&](auto type) {
    using T = decltype(type);
    const T* w = static_cast<const T*>(m.weight);
    if (is_rows(m)) return multiply_lanes(DenseLanes<T>{w + o * m.in, m.in, m.in}, n, transposed, nullptr, p, part);
    multiply_lanes(DenseLanes<T>{w + o, m.out, n}, m.in, !transposed, nullptr, p, part);
  };
  const float* scale = m.scaling == PER_OUTPUT ? static_cast<const float*>(m.scale) + o : nullptr;
  switch (m.format) {
    case F32_ROWS:
    case F32_COLUMNS: return dense(float{});
    case BF16_ROWS:
    case BF16_COLUMNS: return dense(Bfloat16{});
    case F16_ROWS:
    case F16_COLUMNS: return dense(Float16{});
    default:
      if (has_bytes(m)) return multiply_lanes(PackedLanes<4>(m, o, n), m.in, !transposed, scale, p, part);
      multiply_lanes(PackedLanes<8>(m, o, n), m.in, !transposed, scale, p, part);
  }
}
