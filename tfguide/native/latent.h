// What latent attention computes beside the products of whole matrices: queries that meet the latents as they are cached,
// and the outputs of the heads from the means of the latents. The matrix that would make keys and values of the latents is
// multiplied with the query instead, and with the mean (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.2). A call reads it
// once, whatever the length of the texts. Keys and values are never made: with PASS_ROWS new positions at a time, that
// would take more products for the sizes of DeepSeek.
#pragma once
#include "rows.h"
#include "step.h"

struct LatentHeads {
  const Step& s;
  const Layer& layer;
  const int id, size;  // of a thread
  float* memory;       // PartRows::numbers

  // The queries `raw` to those of Heads, in q.
  void absorb() const {
    const Latent& n = s.m.latent;
    const int64_t H = s.shape.n, d = s.m.d_head, wide = s.shape.d_query;
    each_part(n.kv_rank, [&](int64_t h, Part part) {
      multiply_part(layer.key_value_up, h * (n.d_nope + n.d_value), n.d_nope, true,
                    PartRows{s.raw + h * d, H * d, s.q + h * wide, H * wide, s.rows, memory}, part);
      for (int64_t r = 0; part.first == 0 && r < s.rows; ++r) {
        float* rope = s.q + (r * H + h) * wide + n.kv_rank;
        std::memcpy(rope, s.raw + (r * H + h) * d + n.d_nope, n.d_rope * sizeof(float));
        s.turn(layer, r, rope);
      }
    });
  }

  // The outputs of the heads from the means of the latents, which lie where the queries were.
  void project() const {
    const Latent& n = s.m.latent;
    const int64_t H = s.shape.n, v = n.d_value, wide = s.shape.d_query;
    each_part(v, [&](int64_t h, Part part) {
      multiply_part(layer.key_value_up, h * (n.d_nope + v) + n.d_nope, v, false,
                    PartRows{s.q + h * wide, H * wide, s.heads + h * v, H * v, s.rows, memory}, part);
    });
  }

 private:
  // Calls act(head, part) for this thread's share of the n results of each head.
  template <class F>
  void each_part(int64_t n, F&& act) const {
    constexpr int64_t TOGETHER = 4 * LANES;
    const int64_t parts = (n + TOGETHER - 1) / TOGETHER, units = s.shape.n * parts, end = units * (id + 1) / size;
    for (int64_t u = units * id / size, next; u < end; u = next) {
      const int64_t h = u / parts;
      next = std::min((h + 1) * parts, end);
      Part part(n, 0, 1);
      part.first = (u - h * parts) * TOGETHER;
      part.last = std::min(n, (next - h * parts) * TOGETHER);
      act(h, part);
    }
  }
};
