// What stands between the matrix products of a prompt, in one pass over each row: norms, activations, rotations. A
// framework takes a pass for every arithmetic operation in them. Rows come and go in the framework's type, and are
// float32 in between.
#pragma once
#include <vector>

#include "rows.h"
#include "types.h"

// Overwrites a with activation(a), times b where there is one.
inline void activate(int activation, int64_t width, float* a, const float* b) {
  int64_t i = 0;
  for (; i + WIDTH <= width; i += WIDTH)
    write(a + i, activated(activation, load(a + i)) * (b ? load(b + i) : all(1.0f)));
  if (i == width) return;
  float rest[WIDTH] = {};
  std::memcpy(rest, a + i, (width - i) * sizeof(float));
  const Floats last = activated(activation, load(rest));
  for (int64_t j = 0; i + j < width; ++j) a[i + j] = last[j] * (b ? b[i + j] : 1.0f);
}

// Part `id` of `parts` of the rows.
inline void run_rowwise(const Rowwise& work, int id, int parts) {
  with_type(work.type, [&](auto sample) {
    using T = decltype(sample);
    const int64_t width = work.width, half = work.rotated / 2;
    std::vector<float> memory(2 * width);
    float *a = memory.data(), *b = a + width;
    for (int64_t r = work.rows * id / parts; r < work.rows * (id + 1) / parts; ++r) {
      load_row(static_cast<const T*>(work.x) + r * width, width, a);
      if (work.task == NORMALISE) normalise(work.norm, width, work.is_rms, work.eps, a, a, 0, width);
      if (work.task == ACTIVATE) {
        if (work.other) load_row(static_cast<const T*>(work.other) + r * width, width, b);
        activate(work.activation, width, a, work.other ? b : nullptr);
      }
      if (work.task == ROTATE)
        for (float* head = a; head < a + width; head += work.head)
          rotate(head, work.rotated, work.cos + r * half, work.sin + r * half, head);
      store_row(a, width, static_cast<T*>(work.y) + r * width);
    }
  });
}
