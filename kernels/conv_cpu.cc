// Convolution on the CPU as im2col + sgemm, a few samples at a time so that the columns stay small.
//
// columns [positions, kernel_height * kernel_width * in_channels] of a chunk of samples; then
//   y = columns · filter + bias        d_filter = Σ columnsᵀ · dy        d_columns = dy · filterᵀ,
//   scattered back to dx
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/op_cpu.h"
#include "kernels/parallel.h"

namespace muster::cpu {
namespace {

constexpr int64_t kColumnsBytes = 8 << 20;  // of a chunk's columns

struct Sizes {
  int64_t positions, patch, in, out, chunk;  // elements of one sample; chunk in samples
};

Sizes SizesOf(const Conv2dShape& s) {
  Sizes sizes;
  sizes.positions = s.out_height * s.out_width;
  sizes.patch = s.kernel_height * s.kernel_width * s.in_channels;
  sizes.in = s.in_height * s.in_width * s.in_channels;
  sizes.out = sizes.positions * s.out_channels;
  sizes.chunk = std::clamp<int64_t>(
      kColumnsBytes / static_cast<int64_t>(sizeof(float)) / (sizes.positions * sizes.patch), 1,
      std::max<int64_t>(s.batch, 1));
  return sizes;
}

// For output row `oy` and kernel row `ky`: the input row, or -1 outside.
int64_t InputRow(const Conv2dShape& s, int64_t oy, int64_t ky) {
  const int64_t row = oy * s.stride_height - s.pad_top + ky;
  return row >= 0 && row < s.in_height ? row : -1;
}

// The kernel columns [first, last) that fall inside the input at output column `ox`, whose first
// input column is `left`.
struct Span {
  int64_t left, first, last;
};
Span InputColumns(const Conv2dShape& s, int64_t ox) {
  const int64_t left = ox * s.stride_width - s.pad_left;
  const int64_t first = std::max<int64_t>(0, -left);
  return {left, first, std::max(first, std::min(s.kernel_width, s.in_width - left))};
}

void Im2Col(const Conv2dShape& s, const float* x, float* columns) {
  const int64_t c = s.in_channels, row_patch = s.kernel_width * c;
  for (int64_t oy = 0; oy < s.out_height; ++oy) {
    for (int64_t ox = 0; ox < s.out_width; ++ox) {
      const Span span = InputColumns(s, ox);
      for (int64_t ky = 0; ky < s.kernel_height; ++ky, columns += row_patch) {
        const int64_t row = InputRow(s, oy, ky);
        if (row < 0) {
          std::fill(columns, columns + row_patch, 0.0f);
          continue;
        }
        std::fill(columns, columns + span.first * c, 0.0f);
        std::memcpy(columns + span.first * c, x + (row * s.in_width + span.left + span.first) * c,
                    static_cast<size_t>((span.last - span.first) * c) * sizeof(float));
        std::fill(columns + span.last * c, columns + row_patch, 0.0f);
      }
    }
  }
}

// Adds the columns back to where they came from.
void Col2Im(const Conv2dShape& s, const float* columns, float* dx) {
  const int64_t c = s.in_channels, row_patch = s.kernel_width * c;
  for (int64_t oy = 0; oy < s.out_height; ++oy) {
    for (int64_t ox = 0; ox < s.out_width; ++ox) {
      const Span span = InputColumns(s, ox);
      for (int64_t ky = 0; ky < s.kernel_height; ++ky, columns += row_patch) {
        const int64_t row = InputRow(s, oy, ky);
        if (row < 0) continue;
        float* to = dx + (row * s.in_width + span.left) * c;
        for (int64_t i = span.first * c; i < span.last * c; ++i) to[i] += columns[i];
      }
    }
  }
}

}  // namespace

void Conv2dForward(Stream& stream, const Conv2dShape& s, const float* x, const float* filter,
                   const float* bias, float* y) {
  const Sizes sizes = SizesOf(s);
  std::vector<float> columns(sizes.chunk * sizes.positions * sizes.patch);
  for (int64_t first = 0; first < s.batch; first += sizes.chunk) {
    const int64_t count = std::min(sizes.chunk, s.batch - first);
    ParallelFor(stream.device().threads(), count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        Im2Col(s, x + (first + n) * sizes.in, &columns[n * sizes.positions * sizes.patch]);
      }
    });
    float* out = y + first * sizes.out;
    cpu::MatMul(stream, {.m = count * sizes.positions, .n = s.out_channels, .k = sizes.patch},
                columns.data(), filter, 0.0f, out);
    const int64_t rows = count * sizes.positions;
    ParallelFor(stream.device().threads(), rows, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        float* row = out + r * s.out_channels;
        for (int64_t c = 0; c < s.out_channels; ++c) {
          const float value = row[c] + bias[c];
          row[c] = s.relu && !(value > 0) ? 0.0f : value;
        }
      }
    });
  }
}

void Conv2dBackwardInput(Stream& stream, const Conv2dShape& s, const float* filter, const float* dy,
                         float* dx) {
  const Sizes sizes = SizesOf(s);
  std::vector<float> columns(sizes.chunk * sizes.positions * sizes.patch);
  for (int64_t first = 0; first < s.batch; first += sizes.chunk) {
    const int64_t count = std::min(sizes.chunk, s.batch - first);
    cpu::MatMul(
        stream,
        {.m = count * sizes.positions, .n = sizes.patch, .k = s.out_channels, .trans_b = true},
        dy + first * sizes.out, filter, 0.0f, columns.data());
    ParallelFor(stream.device().threads(), count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        float* image = dx + (first + n) * sizes.in;
        std::fill(image, image + sizes.in, 0.0f);
        Col2Im(s, &columns[n * sizes.positions * sizes.patch], image);
      }
    });
  }
}

void Conv2dBackwardFilter(Stream& stream, const Conv2dShape& s, const float* x, const float* dy,
                          float* d_filter, float* d_bias) {
  const Sizes sizes = SizesOf(s);
  std::vector<float> columns(sizes.chunk * sizes.positions * sizes.patch);
  for (int64_t first = 0; first < s.batch; first += sizes.chunk) {
    const int64_t count = std::min(sizes.chunk, s.batch - first);
    ParallelFor(stream.device().threads(), count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        Im2Col(s, x + (first + n) * sizes.in, &columns[n * sizes.positions * sizes.patch]);
      }
    });
    cpu::MatMul(
        stream,
        {.m = sizes.patch, .n = s.out_channels, .k = count * sizes.positions, .trans_a = true},
        columns.data(), dy + first * sizes.out, first == 0 ? 0.0f : 1.0f, d_filter);
  }
  cpu::BiasGrad(stream, s.batch * sizes.positions, s.out_channels, dy, d_bias);
}

}  // namespace muster::cpu
