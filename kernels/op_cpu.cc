#include "kernels/op_cpu.h"

#include <dnnl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/dropout_bits.h"
#include "kernels/parallel_cpu.h"
#include "kernels/simd_cpu.h"
#include "telemetry/check.h"

namespace muster {
namespace {

// [rows, units * rank] as [rank][rows, units], so that inner loops run over units.
std::vector<float> RanksApart(int64_t rows, int64_t units, int64_t rank, const float* x) {
  std::vector<float> apart(rank * rows * units);
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t i = 0; i < rows * units; ++i) apart[r * rows * units + i] = x[i * rank + r];
  }
  return apart;
}

void RanksTogether(int64_t rows, int64_t units, int64_t rank, const std::vector<float>& apart,
                   float* x) {
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t i = 0; i < rows * units; ++i) x[i * rank + r] = apart[r * rows * units + i];
  }
}

// y [pixels, channels] = x + bias; y may be x. This device's convolutions add their bias
// themselves.
void AddBias(int threads, int64_t pixels, int64_t channels, const float* bias, const float* x,
             float* y) {
  ParallelFor(threads, pixels, [&](int, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t c = 0; c < channels; ++c) y[p * channels + c] = x[p * channels + c] + bias[c];
    }
  });
}

}  // namespace

void CpuOps::Copy(Stream&, void* to, const void* from, size_t bytes, CopyDirection) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void CpuOps::Fill(Stream&, int64_t n, float value, float* x) { std::fill_n(x, n, value); }

void CpuOps::Axpy(Stream&, int64_t n, float a, const float* x, float* y) {
  ParallelFor(n < 65536 ? 1 : threads_, n, [&](int, int64_t begin, int64_t end) {
    simd::Axpy(end - begin, a, x + begin, y + begin);
  });
}

void CpuOps::Gemm(Stream& stream, const GemmArgs& g) {
  const ThreadScope scope(threads_);
  if (g.bias != nullptr) BroadcastRow(stream, g.m, g.n, g.bias, g.c);
  const dnnl_status_t status =
      dnnl_sgemm(g.trans_a ? 'T' : 'N', g.trans_b ? 'T' : 'N', g.m, g.n, g.k, g.alpha, g.a, g.lda,
                 g.b, g.ldb, g.bias != nullptr ? 1 : g.beta, g.c, g.ldc);
  CHECK(status == dnnl_success);
}

void CpuOps::BroadcastRow(Stream&, int64_t rows, int64_t cols, const float* row, float* y) {
  for (int64_t i = 0; i < rows; ++i) std::copy_n(row, cols, y + i * cols);
}

void CpuOps::SumRows(Stream&, int64_t rows, int64_t cols, const float* x, float* sum) {
  const int parts = rows * cols < 65536 ? 1 : threads_;
  std::vector<float> partial(parts * cols);
  ParallelFor(parts, rows, [&](int part, int64_t begin, int64_t end) {
    simd::SumRows(end - begin, cols, x + begin * cols, &partial[part * cols]);
  });
  std::copy_n(partial.data(), cols, sum);
  for (int part = 1; part < parts; ++part) simd::Add(cols, &partial[part * cols], sum);
}

void CpuOps::ReluDropout(Stream& stream, int64_t n, int64_t features, const DropoutArgs& dropout,
                         const ChannelBias& bias, const float* x, float* y, uint32_t* mask) {
  if (bias.values != nullptr) {
    AddBias(threads_, n * features / bias.channels, bias.channels, bias.values, x, y);
    return ReluDropout(stream, n, features, dropout, {}, y, y, mask);
  }
  const int64_t blocks = (features + kDropoutBlock - 1) / kDropoutBlock;
  ParallelFor(threads_, n, [&](int, int64_t begin, int64_t end) {
    std::vector<uint32_t> keep(dropout.rate > 0 ? blocks * kDropoutBlockWords : 0);
    for (int64_t s = begin; s < end; ++s) {
      if (!keep.empty()) DropoutBits(dropout, s, 0, blocks, keep.data());
      simd::ReluKeep(features, keep.empty() ? nullptr : keep.data(), dropout.scale(),
                     x + s * features, y + s * features,
                     mask == nullptr ? nullptr : mask + s * MaskWords(features));
    }
  });
}

void CpuOps::MaskedScale(Stream&, int64_t n, int64_t features, const uint32_t* mask, float scale,
                         const float* dy, float* dx) {
  ParallelFor(threads_, n, [&](int, int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      simd::Keep(features, mask + s * MaskWords(features), scale, dy + s * features,
                 dx + s * features);
    }
  });
}

void CpuOps::Dropout(Stream&, int64_t n, int64_t features, const DropoutArgs& dropout,
                     const float* x, float* y) {
  const int64_t blocks = (features + kDropoutBlock - 1) / kDropoutBlock;
  ParallelFor(threads_, n, [&](int, int64_t begin, int64_t end) {
    std::vector<uint32_t> keep(blocks * kDropoutBlockWords);
    for (int64_t s = begin; s < end; ++s) {
      DropoutBits(dropout, s, 0, blocks, keep.data());
      simd::Keep(features, keep.data(), dropout.scale(), x + s * features, y + s * features);
    }
  });
}

void CpuOps::MaxPool(Stream& stream, int64_t n, const PoolArgs& pool, const float* x, float* y,
                     uint8_t* winners) {
  const Window& w = pool.window;
  if (pool.bias != nullptr) {
    const int64_t pixels = n * w.in.h * w.in.w;
    std::vector<float> sum(pixels * pool.channels);
    AddBias(threads_, pixels, pool.channels, pool.bias, x, sum.data());
    PoolArgs without = pool;
    without.bias = nullptr;
    return MaxPool(stream, n, without, sum.data(), y, winners);
  }
  const int64_t row = w.in.w * pool.channels;  // elements
  const int64_t image = w.in.h * row;
  const int64_t out_row = w.out.w * pool.channels;
  const int64_t window_blocks = (w.kernel.h * row + kDropoutBlock - 1) / kDropoutBlock + 1;
  ParallelFor(threads_, n * w.out.h, [&](int, int64_t begin, int64_t end) {
    const bool drop = pool.dropout.rate > 0;
    std::vector<uint32_t> keep(drop ? window_blocks * kDropoutBlockWords + 2 : 0);
    for (int64_t at = begin; at < end; ++at) {
      const int64_t s = at / w.out.h, i = at % w.out.h;
      const int64_t top = std::max<int64_t>(0, i * w.stride.h - w.pad.h);
      const int64_t block = top * row / kDropoutBlock;
      if (drop) DropoutBits(pool.dropout, s, block, window_blocks, keep.data());
      simd::PoolRow(pool, i, x + s * image,
                    drop ? reinterpret_cast<const uint8_t*>(keep.data()) : nullptr,
                    block * kDropoutBlock, y + at * out_row,
                    winners == nullptr ? nullptr : winners + at * out_row);
    }
  });
}

void CpuOps::MaxPoolGradient(Stream&, int64_t n, const PoolArgs& pool, const uint8_t* winners,
                             const float* dy, float* dx) {
  const Window& w = pool.window;
  const int64_t image = w.in.h * w.in.w * pool.channels;
  const int64_t out_row = w.out.w * pool.channels;
  const bool overlap = w.stride.h < w.kernel.h || w.stride.w < w.kernel.w;
  const bool covers =
      w.stride == w.kernel && w.out.h * w.stride.h >= w.in.h && w.out.w * w.stride.w >= w.in.w;
  ParallelFor(threads_, n, [&](int, int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      if (!covers) std::fill_n(dx + s * image, image, 0.0f);
      for (int64_t i = 0; i < w.out.h; ++i) {
        const int64_t at = (s * w.out.h + i) * out_row;
        simd::PoolRowGradient(pool, i, overlap, winners + at, dy + at, dx + s * image);
      }
    }
  });
}

void CpuOps::SoftmaxCrossEntropy(Stream&, int64_t n, int64_t classes, int64_t batch, const float* x,
                                 const int32_t* label, float* loss, float* dx) {
  std::vector<double> p(classes);
  for (int64_t s = 0; s < n; ++s) {
    const float* row = x + s * classes;
    CHECK_GE(label[s], 0);
    CHECK_LT(label[s], classes);
    const double max = *std::max_element(row, row + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += p[c] = std::exp(row[c] - max);
    loss[s] = static_cast<float>(std::log(sum) + max - row[label[s]]);
    if (dx == nullptr) continue;
    for (int64_t c = 0; c < classes; ++c) {
      const double target = c == label[s] ? 1 : 0;
      dx[s * classes + c] = static_cast<float>((p[c] / sum - target) / static_cast<double>(batch));
    }
  }
}

void CpuOps::SvdfExpand(Stream&, int64_t frames, int64_t features, int64_t units, int64_t rank,
                        const float* feature, const float* time, float* matrix) {
  const std::vector<float> f = RanksApart(features, units, rank, feature);
  const std::vector<float> t = RanksApart(frames, units, rank, time);
  ParallelFor(threads_, frames * features, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* ft = &t[row / features * units];
      const float* ff = &f[row % features * units];
      simd::Mul(units, ft, ff, matrix + row * units);
      for (int64_t r = 1; r < rank; ++r) {
        simd::AddMul(units, ft + r * frames * units, ff + r * features * units,
                     matrix + row * units);
      }
    }
  });
}

void CpuOps::SvdfContract(Stream&, int64_t frames, int64_t features, int64_t units, int64_t rank,
                          const float* feature, const float* time, const float* dmatrix,
                          float* dfeature, float* dtime) {
  const std::vector<float> f = RanksApart(features, units, rank, feature);
  const std::vector<float> t = RanksApart(frames, units, rank, time);
  std::vector<float> df(f.size()), dt(t.size());
  ParallelFor(threads_, features * rank, [&](int, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t i = at % features, r = at / features;
      for (int64_t j = 0; j < frames; ++j) {
        simd::AddMul(units, dmatrix + (j * features + i) * units, &t[(r * frames + j) * units],
                     &df[at * units]);
      }
    }
  });
  ParallelFor(threads_, frames * rank, [&](int, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t j = at % frames, r = at / frames;
      for (int64_t i = 0; i < features; ++i) {
        simd::AddMul(units, dmatrix + (j * features + i) * units, &f[(r * features + i) * units],
                     &dt[at * units]);
      }
    }
  });
  RanksTogether(features, units, rank, df, dfeature);
  RanksTogether(frames, units, rank, dt, dtime);
}

std::unique_ptr<Conv2dPlan> CpuOps::MakeConv2d(const Conv2dArgs& args) {
  CHECK_GT(args.window.out.h, 0);
  CHECK_GT(args.window.out.w, 0);
  // Fewer channels than a vector holds waste most of oneDNN's direct kernels, or get its reference
  // loops.
  if (args.in_channels >= 16 && args.out_channels >= 16) {
    if (std::unique_ptr<Conv2dPlan> plan = MakeDirectConv2d(args, threads_)) return plan;
  }
  return MakePatchConv2d(args, threads_);
}

}  // namespace muster
