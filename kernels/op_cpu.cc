#include "kernels/op_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/parallel.h"

namespace muster::cpu {
namespace {

constexpr int64_t kGrain = 16 * 1024;  // elements: below, a second thread costs more than it gives

}  // namespace

void AddBias(Stream& stream, int64_t rows, int64_t columns, const float* bias, float* y) {
  ParallelFor(stream.device().threads(), rows, kGrain / columns + 1,
              [&](int64_t begin, int64_t end) {
                for (int64_t r = begin; r < end; ++r) {
                  float* row = y + r * columns;
                  for (int64_t c = 0; c < columns; ++c) row[c] += bias[c];
                }
              });
}

void BiasGrad(Stream&, int64_t rows, int64_t columns, const float* dy, float* d_bias) {
  std::fill(d_bias, d_bias + columns, 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = dy + r * columns;
    for (int64_t c = 0; c < columns; ++c) d_bias[c] += row[c];
  }
}

void Relu(Stream& stream, int64_t size, const float* x, float* y) {
  ParallelFor(stream.device().threads(), size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] > 0 ? x[i] : 0.0f;
  });
}

void ReluGrad(Stream& stream, int64_t size, const float* y, const float* dy, float* dx) {
  cpu::ReluDropoutGrad(stream, size, 1.0f, y, dy, dx);
}

void Dropout(Stream& stream, int64_t size, float keep, PhiloxKey key, const float* x, float* y) {
  const float scale = 1.0f / keep;
  // Element i takes word i % 4 of block i / 4: one Philox block serves four elements.
  ParallelFor(stream.device().threads(), (size + 3) / 4, kGrain / 4,
              [&](int64_t begin, int64_t end) {
                for (int64_t block = begin; block < end; ++block) {
                  const PhiloxBlock random = Philox(key, static_cast<uint64_t>(block));
                  const int64_t first = block * 4;
                  const int64_t count = std::min<int64_t>(4, size - first);
                  for (int64_t i = 0; i < count; ++i) {
                    y[first + i] = UniformFloat(random[i]) < keep ? x[first + i] * scale : 0.0f;
                  }
                }
              });
}

void ReluDropoutGrad(Stream& stream, int64_t size, float keep, const float* y, const float* dy,
                     float* dx) {
  const float scale = 1.0f / keep;
  ParallelFor(stream.device().threads(), size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) dx[i] = y[i] > 0 ? dy[i] * scale : 0.0f;
  });
}

void MaxPool(Stream& stream, const PoolShape& shape, const float* x, float* y) {
  const int64_t out_h = shape.out_height(), out_w = shape.out_width(), c = shape.channels;
  ParallelFor(stream.device().threads(), shape.batch * out_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / out_h, top = row % out_h * 2;
      const float* upper = x + (image * shape.height + top) * shape.width * c;
      const float* lower = top + 1 < shape.height ? upper + shape.width * c : upper;
      for (int64_t column = 0; column < out_w; ++column) {
        const int64_t left = column * 2 * c;
        const int64_t right = column * 2 + 1 < shape.width ? left + c : left;
        float* out = y + (row * out_w + column) * c;
        for (int64_t i = 0; i < c; ++i) {
          out[i] = std::max(std::max(upper[left + i], upper[right + i]),
                            std::max(lower[left + i], lower[right + i]));
        }
      }
    }
  });
}

void ReluDropoutMaxPoolGrad(Stream& stream, const PoolShape& shape, float keep, const float* y,
                            const float* dy, float* x) {
  const float scale = 1.0f / keep;
  const int64_t out_h = shape.out_height(), out_w = shape.out_width(), c = shape.channels;
  ParallelFor(stream.device().threads(), shape.batch * out_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / out_h, top = row % out_h * 2;
      const int64_t upper = (image * shape.height + top) * shape.width * c;
      for (int64_t column = 0; column < out_w; ++column) {
        const float* best = y + (row * out_w + column) * c;
        const float* grad = dy + (row * out_w + column) * c;
        const bool has_right = column * 2 + 1 < shape.width, has_lower = top + 1 < shape.height;
        const int64_t p00 = upper + column * 2 * c;
        const int64_t p01 = p00 + c, p10 = p00 + shape.width * c, p11 = p10 + c;
        for (int64_t i = 0; i < c; ++i) {
          // The first maximum in row-major order takes the gradient.
          float left = best[i] > 0 ? grad[i] * scale : 0.0f;
          const auto give = [&](int64_t at) {
            const bool hit = x[at + i] == best[i];
            x[at + i] = hit ? left : 0.0f;
            left = hit ? 0.0f : left;
          };
          give(p00);
          if (has_right) give(p01);
          if (has_lower) give(p10);
          if (has_right && has_lower) give(p11);
        }
      }
    }
  });
}

float SoftmaxCrossEntropy(Stream&, int64_t rows, int64_t classes, const float* logits,
                          const int32_t* labels, float* d_logits) {
  double loss = 0;
  const float scale = 1.0f / static_cast<float>(rows);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = logits + r * classes;
    const float top = *std::max_element(row, row + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(row[c] - top));
    loss += std::log(sum) - static_cast<double>(row[labels[r]] - top);
    if (d_logits == nullptr) continue;
    for (int64_t c = 0; c < classes; ++c) {
      const auto p = static_cast<float>(std::exp(static_cast<double>(row[c] - top)) / sum);
      d_logits[r * classes + c] = (p - (c == labels[r] ? 1.0f : 0.0f)) * scale;
    }
  }
  return static_cast<float>(loss / static_cast<double>(rows));
}

}  // namespace muster::cpu
