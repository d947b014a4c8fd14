// Some products by the kernels of this package, with one thread: format, rows, inputs, outputs, how many.
#include "kernels.cpp"

#include <cstdlib>

int main(int, char** words) {
  const int32_t format = std::atoi(words[1]);
  const int64_t rows = std::atoi(words[2]), in = std::atoi(words[3]), out = std::atoi(words[4]);
  std::vector<float> weight(in * out + 16), scale(in * out / 8 + 16), x(rows * in), y(rows * out);
  for (int64_t i = 0; i < rows * in; ++i) x[i] = float(i % 61) - 30.0f;
  const int32_t scaling = format == INT4 || format == INT4_A8 ? HALVES : PER_OUTPUT;
  const Linear linear{weight.data(), scale.data(), nullptr, nullptr, in, out, format, scaling, 32};
  for (int i = std::atoi(words[5]); i > 0; --i) tfguide_linear(&linear, x.data(), rows, y.data(), 1);
}
