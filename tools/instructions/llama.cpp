// Some products as llama.cpp computes them on ARM, with one thread: type, rows, inputs, outputs, how many.
//
// ggml_compute_forward_mul_mat of ggml-cpu.c chooses between kernels, and so does this: weights of 8 and 4 bits are
// rearranged when they are loaded, if the processor has the instruction for it (repack.cpp); other products of two rows and
// more go to llamafile_sgemm, which may refuse; what is left is a dot product for each output. Rows are rounded first.
// The contents of the weights do not matter here: no instruction depends on them.
#include <cstdlib>
#include <cstring>
#include <vector>

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "ggml-cpu.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "simd-mappings.h"
#include "llamafile/sgemm.h"
#include "quants.h"
#include "repack.h"
#include "vec.h"

// What ggml-cpu.c does around its kernels: rows are rounded by plain loops, and the only thread takes every chunk.
static int next_chunk;
extern "C" {
void ggml_cpu_fp32_to_fp16(const float* x, ggml_fp16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = GGML_CPU_FP32_TO_FP16(x[i]);
}
void ggml_cpu_fp32_to_bf16(const float* x, ggml_bf16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = GGML_FP32_TO_BF16(x[i]);
}
void ggml_threadpool_chunk_set(ggml_threadpool*, int value) { next_chunk = value; }
int ggml_threadpool_chunk_add(ggml_threadpool*, int value) { return (next_chunk += value) - value; }
void ggml_barrier(ggml_threadpool*) {}
}

namespace {

struct Product {
  ggml_type type;
  int64_t rows, in, out;
  const float* x;
  const char* w;
  float* y;
  char* rounded;

  // The bytes of a row of weights, and of x as it meets them.
  int64_t row_bytes() const { return bytes(type); }
  int64_t rounded_bytes() const { return bytes(is_integer() ? GGML_TYPE_Q8_0 : type); }
  bool is_integer() const { return type == GGML_TYPE_Q8_0 || type == GGML_TYPE_Q4_0; }
  int64_t bytes(ggml_type kind) const {
    switch (kind) {
      case GGML_TYPE_F32: return in * 4;
      case GGML_TYPE_Q8_0: return in / QK8_0 * sizeof(block_q8_0);
      case GGML_TYPE_Q4_0: return in / QK4_0 * sizeof(block_q4_0);
      default: return in * 2;
    }
  }

  void run() {
#if defined(__ARM_FEATURE_DOTPROD)
    if (is_integer()) return rearranged();
#endif
    for (int64_t r = 0; r < rows; ++r) round(r);
    ggml_compute_params one{};
    one.nth = 1;
    const ggml_type met = is_integer() ? GGML_TYPE_Q8_0 : type;
    const int64_t block = is_integer() ? QK8_0 : 1, unit = row_bytes() / (in / block), other = rounded_bytes() / (in / block);
    if (llamafile_sgemm(&one, out, rows, in / block, w, row_bytes() / unit, place(0), rounded_bytes() / other, y, out, type,
                        met, GGML_TYPE_F32))
      return;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < out; ++o) dot(w + o * row_bytes(), place(r), y + r * out + o);
  }

  char* place(int64_t r) { return type == GGML_TYPE_F32 ? (char*)(x + r * in) : rounded + r * rounded_bytes(); }

  void round(int64_t r) {
    if (is_integer()) quantize_row_q8_0(x + r * in, place(r), in);
    if (type == GGML_TYPE_F16) ggml_cpu_fp32_to_fp16(x + r * in, (ggml_fp16_t*)place(r), in);
    if (type == GGML_TYPE_BF16) ggml_cpu_fp32_to_bf16(x + r * in, (ggml_bf16_t*)place(r), in);
  }

  void dot(const char* a, const char* b, float* to) {
    switch (type) {
      case GGML_TYPE_F32: return ggml_vec_dot_f32(in, to, 0, (const float*)a, 0, (const float*)b, 0, 1);
      case GGML_TYPE_F16: return ggml_vec_dot_f16(in, to, 0, (ggml_fp16_t*)a, 0, (ggml_fp16_t*)b, 0, 1);
      case GGML_TYPE_BF16: return ggml_vec_dot_bf16(in, to, 0, (ggml_bf16_t*)a, 0, (ggml_bf16_t*)b, 0, 1);
      case GGML_TYPE_Q8_0: return ggml_vec_dot_q8_0_q8_0(in, to, 0, a, 0, b, 0, 1);
      default: return ggml_vec_dot_q4_0_q8_0(in, to, 0, a, 0, b, 0, 1);
    }
  }

#if defined(__ARM_FEATURE_DOTPROD)
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define KERNEL(part, type) ggml_##part##_##type##_4x8_q8_0
#define ROUND_4 ggml_quantize_mat_q8_0_4x8
#else
#define KERNEL(part, type) ggml_##part##_##type##_4x4_q8_0
#define ROUND_4 ggml_quantize_mat_q8_0_4x4
#endif
  void rearranged() {
    const int64_t fours = rows / 4 * 4;
    for (int64_t r = 0; r < fours; r += 4) ROUND_4(x + r * in, place(r), in);
    for (int64_t r = fours; r < rows; ++r) round(r);
    const bool is_8 = type == GGML_TYPE_Q8_0;
    if (fours) (is_8 ? KERNEL(gemm, q8_0) : KERNEL(gemm, q4_0))(in, y, out, w, place(0), fours, out);
    for (int64_t r = fours; r < rows; ++r)
      (is_8 ? KERNEL(gemv, q8_0) : KERNEL(gemv, q4_0))(in, y + r * out, out, w, place(r), 1, out);
  }
#endif
};

}  // namespace

int main(int, char** words) {
  const ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_BF16, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};
  const int64_t rows = std::atoi(words[2]), in = std::atoi(words[3]), out = std::atoi(words[4]);
  std::vector<float> x(rows * in), y(rows * out);
  for (int64_t i = 0; i < rows * in; ++i) x[i] = float(i % 61) - 30.0f;
  std::vector<char> weight(in * out * 4 + 64), rounded(rows * in * 4 + 64);
  Product product{types[std::atoi(words[1])], rows, in, out, x.data(), weight.data(), y.data(), rounded.data()};
  for (int i = std::atoi(words[5]); i > 0; --i) product.run();
}
