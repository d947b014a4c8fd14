// A packed matrix as the numbers that it stands for.
#pragma once
#include "scaling.h"
#include "types.h"

// The numbers of a register of outputs and STEP inputs, 4 of INT8 or 8 of INT4; without scales that are one for an output.
template <int STEP>
inline void packed_numbers(const Linear& m, const Scales& scales, int64_t in, int64_t o, int64_t k, Floats* rows) {
  const int64_t group = o / LANES * LANES, lane = o % LANES;
  if (STEP == 4) {
    const Ints four = read<Ints>(static_cast<const int8_t*>(m.weight) + group * in + k * LANES + lane * 4);
    for (int j = 0; j < STEP; ++j) rows[j] = to_floats(four << (24 - 8 * j) >> 24);
  } else {
    const Words eight = read<Words>(static_cast<const uint8_t*>(m.weight) + (group * in + k * LANES) / 2 + lane * 4);
    for (int j = 0; j < STEP; ++j) rows[j] = to_floats((Ints)(eight >> (8 * (j & 3) + 4 * (j >> 2)) & 15));
  }
  if (m.scaling == PER_OUTPUT) return;
  Floats step, minimum;
  scales.take(k / m.group, lane, step, minimum);
  if (!has_minima(m)) minimum = STEP == 8 ? step * float(-MIDDLE) : Floats{};
  for (int j = 0; j < STEP; ++j) rows[j] = rows[j] * step + minimum;
}

template <class T, int STEP>
[[gnu::noinline]] void unpack_of(const Linear& m, T* to, Part part) {
  const int64_t in = padded(m.in, STEP);
  for (int64_t o = part.first; o < part.last; o += 2 * LANES) {  // 32 numbers of bfloat16 fill a cache line
    const int64_t last = std::min<int64_t>(o + 2 * LANES, std::min(part.last, m.out));
    const Scales scales[] = {Scales(m, o), Scales(m, o + LANES)};
    for (int64_t k = 0; k < in; k += STEP)
      for (int64_t first = o; first < last; first += WIDTH) {
        Floats rows[STEP];
        packed_numbers<STEP>(m, scales[(first - o) / LANES], in, first, k, rows);
        T* at = to + k * m.out + first;
        for (int j = 0; j < STEP && k + j < m.in; ++j, at += m.out) {
          if (first + WIDTH <= last) {
            store(at, rows[j]);
          } else {
            store_row((const float*)&rows[j], last - first, at);
          }
        }
      }
  }
}

inline bool has_bytes(const Linear& m) { return m.format == INT8 || m.format == INT8_A8; }

// A packed matrix as numbers of type T, (in, out), without scales that are one for an output.
template <class T>
inline void unpack(const Linear& m, T* to, Part part) {
  if (has_bytes(m)) return unpack_of<T, 4>(m, to, part);
  unpack_of<T, 8>(m, to, part);
}

template <int STEP>
inline void unpack_output(const Linear& m, int64_t o, float* to) {
  const int64_t in = padded(m.in, STEP), lane = o % WIDTH;
  const Scales scales(m, o / LANES * LANES);
  const float scale = m.scaling == PER_OUTPUT ? static_cast<const float*>(m.scale)[o] : 1.0f;
  for (int64_t k = 0; k < in; k += STEP) {
    Floats rows[STEP];
    packed_numbers<STEP>(m, scales, in, o - lane, k, rows);
    for (int j = 0; j < STEP && k + j < m.in; ++j) to[k + j] = rows[j][lane] * scale;
  }
}

// The weights of one output of a matrix in rows or packed.
inline void weights_of(const Linear& m, int64_t o, float* to) {
  switch (m.format) {
    case F32_ROWS: return load_row(static_cast<const float*>(m.weight) + o * m.in, m.in, to);
    case BF16_ROWS: return load_row(static_cast<const Bfloat16*>(m.weight) + o * m.in, m.in, to);
    case F16_ROWS: return load_row(static_cast<const Float16*>(m.weight) + o * m.in, m.in, to);
    default: has_bytes(m) ? unpack_output<4>(m, o, to) : unpack_output<8>(m, o, to);
  }
}
