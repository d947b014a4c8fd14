// The scales of packed weights: a level stands for step * level + minimum.
#pragma once
#include "inputs.h"

inline bool has_minima(const Linear& m) { return m.scaling >= HALVES_AND_MINIMA && m.scaling <= BYTES_OF_BLOCKS; }

// Of the groups of inputs of 16 outputs, which begin with output o. Nothing is in it where scales are those of outputs.
class Scales {
 public:
  Scales() = default;
  Scales(const Linear& m, int64_t o) : kind(m.scaling), at(static_cast<const char*>(m.scale)) {
    if (kind == PER_OUTPUT) return;
    const int64_t groups = m.in / m.group, block = o / LANES, units = m.in / UNIT_BLOCK;
    bytes = LANES * (kind == HALVES_AND_MINIMA ? 4 : kind == SIGNED_BYTES ? 1 : 2);
    at += block * groups * bytes;
    unit = static_cast<const Float16*>(m.unit);
    if (kind == BYTES) {
      unit += o;
      next_minimum = padded(m.out, LANES);
      factor = 1.0f / 255.0f;
    } else if (kind == BYTES_OF_BLOCKS) {
      next_unit = 2 * LANES;
      unit += block * units * next_unit;
    } else if (kind == SIGNED_BYTES) {
      next_unit = LANES;
      unit += block * units * next_unit;
    }
    while (UNIT_BLOCK >> shift > m.group) ++shift;
  }

  // Of group g, for the register of outputs that begins with this lane. Without minima, `minimum` is left alone.
  void take(int64_t g, int64_t lane, Floats& step, Floats& minimum) const {
    const char* scale = at + g * bytes;
    const Float16* of_block = unit + (g >> shift) * next_unit + lane;
    switch (kind) {
      case HALVES: step = load(reinterpret_cast<const Float16*>(scale) + lane); return;
      case HALVES_AND_MINIMA:
        step = load(reinterpret_cast<const Float16*>(scale) + lane);
        minimum = load(reinterpret_cast<const Float16*>(scale) + LANES + lane);
        return;
      case SIGNED_BYTES: step = load(reinterpret_cast<const int8_t*>(scale) + lane) * load(of_block); return;
      default:
        step = load(reinterpret_cast<const uint8_t*>(scale) + lane) * (load(of_block) * factor);
        minimum = load(reinterpret_cast<const uint8_t*>(scale) + LANES + lane) * (load(of_block + next_minimum) * -factor);
    }
  }

 private:
  static constexpr int64_t UNIT_BLOCK = 256;  // inputs that share a unit, but for BYTES
  int32_t kind = HALVES;
  const char* at = nullptr;
  int64_t bytes = 0, next_unit = 0, next_minimum = LANES;
  const Float16* unit = nullptr;
  float factor = 1.0f;
  int shift = 0;
};

// The numbers that levels of 4 bits stand for, without minima: level - 8.
constexpr int MIDDLE = 8;
