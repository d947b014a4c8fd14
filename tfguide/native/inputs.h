// What a product reads: rows x, arranged as the format of the weights needs them. The rows of a tile lie together, so
// that a kernel walks along one address: first some numbers of each row, then the next ones of each row.
#pragma once
#include "abi.h"
#include "parts.h"

inline bool is_rows(const Linear& m) { return m.format <= F16_ROWS; }
inline bool is_columns(const Linear& m) { return m.format >= F32_COLUMNS && m.format <= F16_COLUMNS; }
inline bool is_bfloat16(const Linear& m) { return m.format == BF16_ROWS || m.format == BF16_COLUMNS; }
inline bool is_a8(const Linear& m) { return m.format >= INT8_A8; }

// ---- how many rows a tile has: as many as there are registers for their sums

constexpr int TILE_N = REGISTERS == 32 ? 4 : 2, TILE_R = 6;  // of 32 and 16 bits: rows of weights, rows of x
constexpr int COLUMN_C = REGISTERS == 32 ? 4 : 2;            // and registers of outputs, TILE_R rows of x
constexpr int PACKED_R = 8;                                  // of 8 and 4 bits with float32 rows x
// With rows of 8 bits there are as many sums as counters, and all outputs of a group of 16. AVX-512 takes two groups for
// many rows, so that an operand made from a row serves twice.
constexpr int A8_MANY_N = WIDTH == LANES ? 2 : PARTS, A8_MANY_R = WIDTH == LANES ? 6 : REGISTERS == 32 ? 4 : 2;
constexpr int A8_FEW_R = WIDTH == LANES ? 8 : A8_MANY_R;

inline int64_t tile_rows(const Linear& m, int64_t rows) {
  if (is_a8(m)) return rows > A8_FEW_R ? A8_MANY_R : A8_FEW_R;
  return m.format == INT8 || m.format == INT4 ? PACKED_R : TILE_R;
}

// Whether each thread computes a part of every output, from some of the inputs; else all of some outputs.
constexpr int64_t COLUMN_ROWS = 4;
inline bool in_partial_sums(const Linear& m, int64_t rows) { return is_columns(m) && rows <= COLUMN_ROWS; }

// Whether a product multiplies bfloat16 with bfloat16, and rounds x to it: with more rows, arithmetic takes the time.
inline bool in_bfloat16(const Linear& m, int64_t rows) {
#if defined(HAS_DOT_BFLOAT16)
  return rows > EXACT_ROWS && is_bfloat16(m);
#else
  return false;
#endif
}

// ---- arrangements

// Rows rounded to 8 bits, with a scale and the sum for each block of inputs. q: four numbers of each row of a tile, then
// the next four of each; scale, sum, half: one of each row of a tile, then the next one of each. half: the sum of the first
// half of a block.
struct Rounded {
  int8_t* q;
  float* scale;
  int32_t *sum_, *half;
  int64_t ld, blocks;

  static int64_t bytes(int64_t rows, int64_t in) {
    const int64_t blocks = padded(in, ACTIVATION_BLOCK) / ACTIVATION_BLOCK;
    return rows * blocks * (ACTIVATION_BLOCK + sizeof(float) + 2 * sizeof(int32_t)) + 64;
  }
  Rounded(void* memory, int64_t rows, int64_t in) : ld(padded(in, ACTIVATION_BLOCK)), blocks(ld / ACTIVATION_BLOCK) {
    q = static_cast<int8_t*>(memory);
    scale = reinterpret_cast<float*>(q + rows * ld);
    sum_ = reinterpret_cast<int32_t*>(scale + rows * blocks);
    half = sum_ + rows * blocks;
  }

  // Rounds the inputs of a part, which begins with a block.
  void take(const float* x, int64_t in, int64_t row, RowTile tile, Part part) {
    for (int64_t b = part.first / ACTIVATION_BLOCK; b * ACTIVATION_BLOCK < part.last; ++b) {
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
      alignas(64) int8_t bytes[ACTIVATION_BLOCK];
      Ints total[2] = {};  // of each half
      for (int i = 0; i < ACTIVATION_BLOCK; i += WIDTH) {
        const Ints integers = rounded(load(from + i) * inverse);
        store(bytes + i, integers);
        total[i / LANES] += integers;
      }
      int8_t* to = q + tile.first * ld + b * ACTIVATION_BLOCK * tile.rows + (row - tile.first) * 4;
      for (int i = 0; i < ACTIVATION_BLOCK; i += 4, to += 4 * tile.rows) std::memcpy(to, bytes + i, 4);
      // A NaN or an infinity makes the scale NaN, and with it every output that reads the block.
      const bool finite = size <= 3.4e38f && sum(not_finite) == 0.0f;
      const int64_t at = tile.first * blocks + b * tile.rows + row - tile.first;
      scale[at] = finite ? size / 127.0f : NAN;
      sum_[at] = int32_t(sum(total[0] + total[1]));
      half[at] = int32_t(sum(total[0]));
    }
  }
};

// The inputs that a thread arranges, of all rows: whole blocks of 8-bit activations, and steps of every other format. The
// rows of a tile share cache lines, so two threads that arranged a row each would take every line from each other.
inline Part inputs_of(int64_t in, int id, int team) { return Part(in, id, team, 2 * LANES); }
static_assert(ACTIVATION_BLOCK == 2 * LANES, "a part of the inputs is whole blocks");

// Rows x (rows, in), and x arranged. For weights in rows, two registers of each row of a tile, then the next two; for
// bfloat16 the even numbers in the first of them, the odd ones in the second. For other weights, one number of each row.
// `in_bfloat16` x is rounded: one register of each row of a tile for weights in rows, else two numbers of each row.
struct Input {
  const float* x;
  void* memory;      // of all that is arranged
  int64_t rows, ld;  // ld: of `tiles`
  Rounded rounded;   // for A8
  float* tiles;      // for the others, in the same memory; x itself where that is the same

  static int64_t bytes(int64_t rows, int64_t in) { return rows * padded(in, 2 * LANES) * 5 + 64; }
  Input(const Linear& m, const float* from, int64_t rows, void* memory)
      : x(from), memory(memory), rows(rows), ld(padded(m.in, 2 * LANES)), rounded(memory, rows, m.in),
        tiles(is_arranged(m) ? static_cast<float*>(memory) : const_cast<float*>(from)) {}

  bool is_arranged(const Linear& m) const { return (rows > 1 && !in_partial_sums(m, rows)) || m.format == BF16_ROWS; }

  // A part of the inputs of all rows.
  void prepare(const Linear& m, Part part) {
    for (int64_t t = 0, most = tile_rows(m, rows); t < (rows + most - 1) / most; ++t) {
      const RowTile tile = row_tile(t, rows, most);
      for (int64_t row = tile.first; row < tile.first + tile.rows; ++row) prepare(m, row, tile, part);
    }
  }

 private:
  void prepare(const Linear& m, int64_t row, RowTile tile, Part part) {
    const float* from = x + row * m.in;
    if (is_a8(m)) return rounded.take(from, m.in, row, tile, part);
    if (!is_arranged(m)) return;
    float* to = tiles + tile.first * ld;
    if (in_bfloat16(m, rows)) return round_to_bfloat16(m, from, row - tile.first, tile.rows, to, part);
    if (!is_rows(m)) {
      for (int64_t k = part.first; k < part.last; ++k) to[k * tile.rows + row - tile.first] = from[k];
      return;
    }
    to += part.first * tile.rows + (row - tile.first) * 2 * WIDTH;
    for (int64_t k = part.first; k < part.last && k + 2 * WIDTH <= m.in; k += 2 * WIDTH, to += 2 * WIDTH * tile.rows) {
      Floats a = load(from + k), b = load(from + k + WIDTH);
      if (m.format == BF16_ROWS) even_odd(load(from + k), load(from + k + WIDTH), a, b);
      write(to, a);
      write(to + WIDTH, b);
    }
  }

  static void round_to_bfloat16(const Linear& m, const float* from, int64_t r, int64_t n, void* place, Part part) {
    Bfloat16* to = static_cast<Bfloat16*>(place);
    if (is_rows(m)) {
      for (int64_t k = part.first; k < part.last && k + 2 * WIDTH <= m.in; k += 2 * WIDTH)
        for (int half = 0; half < 2; ++half)
          store(to + k * n + r * 2 * WIDTH + half * WIDTH, load(from + k + half * WIDTH));
      return;
    }
    for (int64_t k = part.first; k < part.last; k += 2) {
      store(to + k * n + r * 2, from[k]);
      store(to + k * n + r * 2 + 1, k + 1 < m.in ? from[k + 1] : 0.0f);
    }
  }
};
