// y = x W + b for a few rows x: the product that decoding is made of. Every weight is read once, whatever the number
// of rows, and the time is that of the reading. Each thread of the team computes its own part of the outputs.
#pragma once
#include <algorithm>

#include "vectors.h"

// How a matrix lies in memory. ROWS: (out, in), as PyTorch keeps it. COLUMNS: (in, out), as Keras keeps it.
// INT8 and INT4: `tfguide.compress.packing`. A8: the rows x are rounded to 8 bits too, in blocks of 32.
enum Format { F32_ROWS, BF16_ROWS, F16_ROWS, F32_COLUMNS, BF16_COLUMNS, F16_COLUMNS, INT8, INT4, INT8_A8, INT4_A8 };

struct Linear {
  const void* weight;
  const void* scale;  // INT8: float32, one for each output; INT4: float16, (out / 16, in / group, 16)
  const float* bias;  // or null
  int64_t in, out;
  int32_t format, group;
};

constexpr int BLOCK = 32;        // inputs that share a scale of 8-bit activations
constexpr int64_t MAX_ROWS = 8;  // rows that are multiplied while a weight is in a register

inline bool is_columns(const Linear& m) { return m.format >= F32_COLUMNS && m.format <= F16_COLUMNS; }
inline bool is_a8(const Linear& m) { return m.format >= INT8_A8; }
inline int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The part [first, last) of n that falls to one of `team` threads, in multiples of 16.
struct Part {
  int64_t first, last;
  Part(int64_t n, int id, int team) {
    const int64_t units = (n + LANES - 1) / LANES;
    first = std::min(n, units * id / team * LANES);
    last = std::min(n, units * (id + 1) / team * LANES);
  }
};

// Rows rounded to 8 bits, q (rows, in), with a scale and the sum of q for each block of 32.
struct Rounded {
  int8_t* q;
  float* scale;
  int32_t* sum_;
  int64_t ld, blocks;

  static int64_t bytes(int64_t rows, int64_t in) {
    const int64_t blocks = padded(in, BLOCK) / BLOCK;
    return rows * blocks * (BLOCK + sizeof(float) + sizeof(int32_t)) + 64;
  }
  Rounded(void* memory, int64_t rows, int64_t in) : ld(padded(in, BLOCK)), blocks(ld / BLOCK) {
    scale = static_cast<float*>(memory);
    sum_ = reinterpret_cast<int32_t*>(scale + rows * blocks);
    q = reinterpret_cast<int8_t*>(sum_ + rows * blocks);
  }
  void take(const float* x, int64_t in, int64_t row) {
    for (int64_t b = 0; b < blocks; ++b) {
      float buffer[BLOCK] = {0};
      const float* from = x + b * BLOCK;
      if (in < (b + 1) * BLOCK) from = static_cast<float*>(std::memcpy(buffer, from, (in - b * BLOCK) * sizeof(float)));
      const Floats first = load(from), second = load(from + LANES);
      const float size = largest(first, second);
      const float inverse = size > 0 ? 127.0f / size : 0;
      const Floats shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
      const Ints low = (Ints)(first * inverse + shift) - 0x4b400000, high = (Ints)(second * inverse + shift) - 0x4b400000;
      int8_t* to = q + row * ld + b * BLOCK;
      write(to, __builtin_convertvector(low, Bytes));
      write(to + LANES, __builtin_convertvector(high, Bytes));
      const Ints both = low + high;
      int32_t total = 0;
      for (int i = 0; i < LANES; ++i) total += both[i];
      // A NaN or an infinity makes the scale NaN, and so every output that the block goes into.
      const bool finite = size <= 3.4e38f && sum(first * 0.0f + second * 0.0f) == 0.0f;
      scale[row * blocks + b] = finite ? size / 127.0f : NAN;
      sum_[row * blocks + b] = total;
    }
  }
};

inline void split_pairs(const float* x, int64_t in, float* halves);

// What a product reads: rows x (rows, in), and x once more as the format of the weights wants it.
struct Input {
  const float* x;
  int64_t ld;
  Rounded rounded;  // for A8
  float* halves;    // for BF16_ROWS, in the same memory

  static int64_t bytes(int64_t rows, int64_t in) { return rows * padded(in, BLOCK) * 5 + 64; }
  Input(const float* from, int64_t rows, int64_t in, void* memory)
      : x(from), ld(in), rounded(memory, rows, in), halves(static_cast<float*>(memory)) {}

  void prepare(const Linear& m, int64_t row) {
    if (is_a8(m)) rounded.take(x + row * ld, m.in, row);
    if (m.format == BF16_ROWS) split_pairs(x + row * ld, m.in, halves + row * ld);
  }
};

inline WideInts repeat4(const int8_t* from) {
  int32_t word;
  std::memcpy(&word, from, 4);
#if defined(__AVX512F__)
  return (WideInts)_mm512_set1_epi32(word);  // becomes part of the instruction that multiplies
#elif defined(__AVX2__)
  return (WideInts)_mm256_set1_epi32(word);
#else
  return WideInts{} + word;
#endif
}

// The processor fetches ahead by itself, but not past the end of a page of 4 KB, and not as far as it pays: so we ask.
// AMD's need no asking where a thread reads one row after the other and does little else: there it costs up to a
// quarter of the speed, and two rows at once are read at half of it. So they are asked only where the arithmetic
// between two lines of the cache is long.
#ifndef IS_AMD
#define IS_AMD 0
#endif
constexpr int AHEAD = 2048;  // bytes
enum Work { LITTLE = 0, LONG = 99 };  // between two lines; or the number of rows x that a weight is multiplied with
template <int WORK>
inline void fetch(const void* at) {
  if (!IS_AMD || WORK > 2) __builtin_prefetch(static_cast<const char*>(at) + AHEAD);
}

// ---- (out, in): dot products of a row of weights with each row of x

// N rows of weights with R rows of x.
template <class T, int N, int R>
inline void dot_rows(const T* w, int64_t in, const float* x, int64_t ldx, float* y, int64_t ldy) {
  constexpr int U = N * R <= 2 ? 4 / (N * R) : 1;  // more sums, to hide the latency of an addition
  Floats acc[N][R][U][2] = {};
  int64_t k = 0;
  for (; k + U * 2 * LANES <= in; k += U * 2 * LANES)
    for (int u = 0; u < U; ++u) {
      const int64_t i = k + u * 2 * LANES;
      for (int n = 0; n < N; ++n) {
        const T* at = w + n * in + i;
        fetch<R>(at);
        if (sizeof(T) == 4) fetch<R>(at + LANES);
        Floats low, high;
        load_two(at, low, high);
        for (int r = 0; r < R; ++r) {
          acc[n][r][u][0] += low * load(x + r * ldx + i);
          acc[n][r][u][1] += high * load(x + r * ldx + i + LANES);
        }
      }
    }
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) {
      Floats total = acc[n][r][0][0] + acc[n][r][0][1];
      for (int u = 1; u < U; ++u) total += acc[n][r][u][0] + acc[n][r][u][1];
      float value = sum(total);
      for (int64_t i = k; i < in; ++i) value += to_float(w[n * in + i]) * x[r * ldx + i];
      y[r * ldy + n] = value;
    }
}

// One row of bfloat16 weights with R rows of x, by whole words of two weights: the lower one shifted up, the upper one
// with the lower cut off. `halves`: each 32 numbers of x with the even ones first.
template <int R>
inline void dot_pairs(const Bfloat16* w, int64_t in, const float* x, int64_t ldx, const float* halves, float* y,
                      int64_t ldy) {
  constexpr int U = R == 1 ? 4 : R == 2 ? 2 : 1;
  Floats acc[R][U][2] = {};
  int64_t k = 0;
  for (; k + U * 2 * LANES <= in; k += U * 2 * LANES)
    for (int u = 0; u < U; ++u) {
      const int64_t i = k + u * 2 * LANES;
      fetch<R>(w + i);
      const Words both = read<Words>(w + i);
      const Floats even = (Floats)(both << 16), odd = (Floats)(both & 0xffff0000u);
      for (int r = 0; r < R; ++r) {
        acc[r][u][0] += even * load(halves + r * ldx + i);
        acc[r][u][1] += odd * load(halves + r * ldx + i + LANES);
      }
    }
  for (int r = 0; r < R; ++r) {
    Floats total = acc[r][0][0] + acc[r][0][1];
    for (int u = 1; u < U; ++u) total += acc[r][u][0] + acc[r][u][1];
    float value = sum(total);
    for (int64_t i = k; i < in; ++i) value += to_float(w[i]) * x[r * ldx + i];
    y[r * ldy] = value;
  }
}

inline void split_pairs(const float* x, int64_t in, float* halves) {
  for (int64_t k = 0; k + 2 * LANES <= in; k += 2 * LANES)
    for (int i = 0; i < LANES; ++i) {
      halves[k + i] = x[k + 2 * i];
      halves[k + LANES + i] = x[k + 2 * i + 1];
    }
}

// Not inlined, as all that follow: in one large function the compiler keeps sums in memory.
template <class T, int R>
[[gnu::noinline]] void rows_of(const Linear& m, int64_t o, int64_t n, const float* x, int64_t ldx, float* y, int64_t ldy) {
  const T* w = static_cast<const T*>(m.weight);
  int64_t i = o;
  if (sizeof(T) == 4 && !IS_AMD)
    for (; i + 2 <= o + n; i += 2) dot_rows<T, 2, R>(w + i * m.in, m.in, x, ldx, y + i, ldy);
  for (; i < o + n; ++i) dot_rows<T, 1, R>(w + i * m.in, m.in, x, ldx, y + i, ldy);
}

template <int R>
[[gnu::noinline]] void pairs_of(const Linear& m, int64_t o, int64_t n, const float* x, int64_t ldx, const float* halves,
                                float* y, int64_t ldy) {
  const Bfloat16* w = static_cast<const Bfloat16*>(m.weight);
  for (int64_t i = o; i < o + n; ++i) dot_pairs<R>(w + i * m.in, m.in, x, ldx, halves, y + i, ldy);
}

// ---- (in, out): rows of weights, each times a number of x, added up

// y += sum of x[i] times a row of weights, for N inputs i that lie `step` apart.
template <class T, int N, int R>
inline void add_columns(const T* w, int64_t step, const float* x, int64_t ldx, int64_t out, float* y, int64_t ldy) {
  int64_t j = 0;
  for (; j + LANES <= out; j += LANES) {
    Floats acc[R];
    for (int r = 0; r < R; ++r) acc[r] = load(y + r * ldy + j);
    for (int i = 0; i < N; ++i) {
      const T* at = w + i * step * out + j;
      if (j * sizeof(T) % 64 == 0) fetch<LITTLE>(at);
      const Floats weight = load(at);
      for (int r = 0; r < R; ++r) acc[r] += weight * x[r * ldx + i * step];
    }
    for (int r = 0; r < R; ++r) write(y + r * ldy + j, acc[r]);
  }
  for (; j < out; ++j)
    for (int r = 0; r < R; ++r)
      for (int i = 0; i < N; ++i) y[r * ldy + j] += to_float(w[i * step * out + j]) * x[r * ldx + i * step];
}

// Eight inputs at once, so that y is read and written for every eighth of them only: one from each eighth of the
// thread's part, so that each is read on and on. Eight rows side by side can share a page, which processors that look
// for a pattern in each page do not see through.
template <class T, int R>
inline void columns_of(const Linear& m, int64_t first, int64_t last, const float* x, int64_t ldx, float* y) {
  const T* w = static_cast<const T*>(m.weight);
  const int64_t eighth = (last - first) / 8;
  for (int64_t i = first; i < first + eighth; ++i)
    add_columns<T, 8, R>(w + i * m.out, eighth, x + i, ldx, m.out, y, m.out);
  for (int64_t i = first + 8 * eighth; i < last; ++i)
    add_columns<T, 1, R>(w + i * m.out, 1, x + i, ldx, m.out, y, m.out);
}

// ---- packed: 16 outputs side by side, one in each lane

template <int R>
[[gnu::noinline]] void int8_of(const Linear& m, int64_t o, const float* x, int64_t ldx, Floats* y) {
  const int64_t in = padded(m.in, 4);
  const int8_t* w = static_cast<const int8_t*>(m.weight) + o * in;
  Floats acc[R][4] = {};
  for (int64_t k = 0; k < in; k += 4) {
    fetch<R>(w + k * LANES);
    const Ints four = read<Ints>(w + k * LANES);
    for (int j = 0; j < 4; ++j) {
      const Floats weight = __builtin_convertvector(four << (24 - 8 * j) >> 24, Floats);
      for (int r = 0; r < R; ++r) acc[r][j] += weight * (k + j < m.in ? x[r * ldx + k + j] : 0.0f);
    }
  }
  const Floats scale = load(static_cast<const float*>(m.scale) + o);
  for (int r = 0; r < R; ++r) y[r] = (acc[r][0] + acc[r][1] + acc[r][2] + acc[r][3]) * scale;
}

template <int R>
[[gnu::noinline]] void int4_of(const Linear& m, int64_t o, const float* x, int64_t ldx, Floats* y) {
  const uint8_t* w = static_cast<const uint8_t*>(m.weight) + o * m.in / 2;
  const Float16* scale = static_cast<const Float16*>(m.scale) + o * (m.in / m.group);
  for (int r = 0; r < R; ++r) y[r] = Floats{};
  for (int64_t g = 0; g < m.in; g += m.group, scale += LANES) {
    Floats acc[R][2] = {};
    float total[R] = {};
    for (int64_t k = g; k < g + m.group; k += 8) {
      fetch<LONG>(w + k * LANES / 2);
      const Words eight = read<Words>(w + k * LANES / 2);
      for (int j = 0; j < 8; ++j) {
        const Floats weight = __builtin_convertvector((Ints)(eight >> (8 * (j & 3) + 4 * (j >> 2)) & 15), Floats);
        for (int r = 0; r < R; ++r) {
          const float value = x[r * ldx + k + j];
          acc[r][j & 1] += weight * value;
          total[r] += value;
        }
      }
    }
    for (int r = 0; r < R; ++r) y[r] += (acc[r][0] + acc[r][1] - 8.0f * total[r]) * load(scale);
  }
}

// With 8-bit activations: N registers of outputs from o on, for R rows. The sums of a row are the same, in the same
// order, whatever N and R: no row's result depends on its neighbours. y: N * R registers, those of a row together.
template <int N, int R>
[[gnu::noinline]] void int8_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, WideFloats* y) {
  const int64_t in = padded(m.in, 4);
  const int8_t* w[N];
  for (int n = 0; n < N; ++n) {
    const int64_t first = o + n * WIDTH;  // its group of 16 lies together, in words of 4 bytes for each output
    w[n] = static_cast<const int8_t*>(m.weight) + first / LANES * LANES * in + first % LANES * 4;
  }
  WideFloats total[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = WideFloats{};
  for (int64_t b = 0; b < x.blocks; ++b) {
    // The instruction wants one side unsigned: weights are shifted by 128, and 128 times the sum of x taken off.
    WideInts acc[R][N];
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) acc[r][n] = WideInts{} - 128 * x.sum_[(row + r) * x.blocks + b];
    const int64_t last = std::min<int64_t>(in, (b + 1) * BLOCK);
#pragma GCC unroll 8
    for (int64_t k = b * BLOCK; k < last; k += 4) {
      WideInts weight[N];
      for (int n = 0; n < N; ++n) {
        fetch<R>(w[n] + k * LANES);
        weight[n] = read<WideInts>(w[n] + k * LANES) ^ int32_t(0x80808080);
      }
      for (int r = 0; r < R; ++r) {
        const WideInts four = repeat4(x.q + (row + r) * x.ld + k);
        for (int n = 0; n < N; ++n) acc[r][n] = dot4(acc[r][n], weight[n], four);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n)
        total[r][n] += __builtin_convertvector(acc[r][n], WideFloats) * x.scale[(row + r) * x.blocks + b];
  }
  for (int n = 0; n < N; ++n) {
    const WideFloats scale = read<WideFloats>(static_cast<const float*>(m.scale) + o + n * WIDTH);
    for (int r = 0; r < R; ++r) y[r * N + n] = total[r][n] * scale;
  }
}

template <int N, int R>
[[gnu::noinline]] void int4_a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, WideFloats* y) {
  // A group of weights and a block of x both start at multiples of 8: go by the shorter of the two.
  const int64_t step = m.group % BLOCK == 0 ? BLOCK : 8;
  const uint8_t* w[N];
  const Float16* scales[N];
  for (int n = 0; n < N; ++n) {
    const int64_t first = o + n * WIDTH, group = first / LANES * LANES, lane = first % LANES;
    w[n] = static_cast<const uint8_t*>(m.weight) + group * m.in / 2 + lane * 4;
    scales[n] = static_cast<const Float16*>(m.scale) + group * (m.in / m.group) + lane;
  }
  WideFloats total[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) total[r][n] = WideFloats{};
  for (int64_t s = 0; s < m.in; s += step) {
    WideInts acc[R][N];
    const int64_t b = s / BLOCK;
    for (int r = 0; r < R; ++r) {
      int32_t sum = 0;
      if (step == BLOCK) {
        sum = x.sum_[(row + r) * x.blocks + b];
      } else {
        for (int i = 0; i < 8; ++i) sum += x.q[(row + r) * x.ld + s + i];
      }
      for (int n = 0; n < N; ++n) acc[r][n] = WideInts{} - 8 * sum;
    }
    const int64_t last = std::min(m.in, s + step);
#pragma GCC unroll 4
    for (int64_t k = s; k < last; k += 8) {
      WideInts low[N], high[N];
      for (int n = 0; n < N; ++n) {
        fetch<LONG>(w[n] + k * LANES / 2);
        const WideInts eight = read<WideInts>(w[n] + k * LANES / 2);
        low[n] = eight & 0x0f0f0f0f;
        high[n] = eight >> 4 & 0x0f0f0f0f;
      }
      for (int r = 0; r < R; ++r) {
        const int8_t* from = x.q + (row + r) * x.ld + k;
        const WideInts first = repeat4(from), second = repeat4(from + 4);
        for (int n = 0; n < N; ++n) acc[r][n] = dot4(dot4(acc[r][n], low[n], first), high[n], second);
      }
    }
    for (int n = 0; n < N; ++n) {
      const WideFloats scale = load_wide(scales[n] + s / m.group * LANES);
      for (int r = 0; r < R; ++r)
        total[r][n] += __builtin_convertvector(acc[r][n], WideFloats) * (scale * x.scale[(row + r) * x.blocks + b]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) y[r * N + n] = total[r][n];
}

// G times 16 outputs from o on, for R rows, into y (rows, ldy).
template <int G, int R>
inline void a8_of(const Linear& m, int64_t o, const Rounded& x, int64_t row, float* y, int64_t ldy) {
  constexpr int N = G * LANES / WIDTH;
  WideFloats values[R * N];
  if (m.format == INT8_A8)
    int8_a8_of<N, R>(m, o, x, row, values);
  else
    int4_a8_of<N, R>(m, o, x, row, values);
  for (int r = 0; r < R; ++r) std::memcpy(y + r * ldy + o, values + r * N, std::min<int64_t>(N * WIDTH, m.out - o) * 4);
}

// How many registers of sums there is room for. AVX-512 has 32 registers: 2 x 6 sums and as many counters, and what
// they are made of. Two groups of 16 outputs at once, so that what is made of a row serves twice.
#if defined(__AVX512F__)
constexpr int GROUPS = 2, GROUP_ROWS = 6, FEW_ROWS = 8;
#elif defined(__AVX2__)
constexpr int GROUPS = 1, GROUP_ROWS = 3, FEW_ROWS = 3;
#else
constexpr int GROUPS = 1, GROUP_ROWS = 8, FEW_ROWS = 8;
#endif

// `rows` rows in as many steps as it takes, up to R at a time.
template <int G, int R>
inline void a8_rows(const Linear& m, int64_t o, const Rounded& x, int64_t rows, float* y, int64_t ldy, int64_t row = 0) {
  for (; row + R <= rows; row += R) a8_of<G, R>(m, o, x, row, y + row * ldy, ldy);
  if constexpr (R > 1) {
    if (row < rows) a8_rows<G, R - 1>(m, o, x, rows, y, ldy, row);
  }
}

inline void a8_product(const Linear& m, const Rounded& x, int64_t rows, float* y, int64_t ldy, Part part) {
  int64_t o = part.first;
  if (rows > FEW_ROWS)
    for (; o + GROUPS * LANES <= padded(part.last, LANES); o += GROUPS * LANES)
      a8_rows<GROUPS, GROUP_ROWS>(m, o, x, rows, y, ldy);
  for (; o < part.last; o += LANES) a8_rows<1, FEW_ROWS>(m, o, x, rows, y, ldy);
}

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

// One thread's outputs of all rows. The weights of 16 outputs stay in the cache while the rows go by in eights.
inline void product(const Linear& m, const Input& input, int64_t rows, float* y, int64_t ldy, Part part) {
  if (is_a8(m)) return a8_product(m, input.rounded, rows, y, ldy, part);
  for (int64_t o = part.first; o < part.last; o += LANES)
    for (int64_t r = 0; r < rows; r += MAX_ROWS) {
      float* to = y + r * ldy;
      switch (std::min(rows - r, MAX_ROWS)) {
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

template <class T>
inline void partial_sums_of(const Linear& m, const float* x, int64_t ldx, int64_t rows, float* y, Part part) {
  for (int64_t r = 0; r < rows; r += 4) {
    const float* from = x + r * ldx;
    float* to = y + r * m.out;
    switch (std::min<int64_t>(rows - r, 4)) {
      case 1: columns_of<T, 1>(m, part.first, part.last, from, ldx, to); break;
      case 2: columns_of<T, 2>(m, part.first, part.last, from, ldx, to); break;
      case 3: columns_of<T, 3>(m, part.first, part.last, from, ldx, to); break;
      default: columns_of<T, 4>(m, part.first, part.last, from, ldx, to);
    }
  }
}

// (in, out) matrices are read along their rows: a thread takes some of the inputs, and gets a share of every output.
inline void partial_sums(const Linear& m, const float* x, int64_t ldx, int64_t rows, float* y, Part part) {
  std::memset(y, 0, rows * m.out * sizeof(float));
  switch (m.format) {
    case F32_COLUMNS: partial_sums_of<float>(m, x, ldx, rows, y, part); break;
    case BF16_COLUMNS: partial_sums_of<Bfloat16>(m, x, ldx, rows, y, part); break;
    default: partial_sums_of<Float16>(m, x, ldx, rows, y, part);
  }
}
