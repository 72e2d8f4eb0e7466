// The CPU's norms: sums of columns come from a part of the rows for each thread, and are put
// together in the parts' order.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/norm_simd_cpu.h"
#include "kernels/op_cpu.h"
#include "kernels/parallel_cpu.h"
#include "kernels/simd_cpu.h"

namespace muster {
namespace {

float Inverse(float variance, float epsilon) { return 1 / std::sqrt(variance + epsilon); }

std::vector<float> Inverses(const NormArgs& args, const float* variance) {
  std::vector<float> inverses(args.cols);
  for (int64_t j = 0; j < args.cols; ++j) inverses[j] = Inverse(variance[j], args.epsilon);
  return inverses;
}

// Parts that the rows are cut into.
int PartsOf(const NormArgs& args, int threads) {
  const bool small = args.rows * args.cols < 65536;
  return small ? 1 : static_cast<int>(std::min<int64_t>(threads, args.rows));
}

}  // namespace

void CpuOps::BatchNorm(Stream& stream, const NormArgs& args, float* mean, float* variance,
                       float* y) {
  const int64_t cols = args.cols;
  const int parts = PartsOf(args, threads_);
  std::vector<float> means(parts * cols), squares(parts * cols);
  std::vector<double> counts(parts);
  ParallelFor(parts, args.rows, [&](int part, int64_t begin, int64_t end) {
    simd::ColumnMoments(end - begin, cols, args.x + begin * cols, &means[part * cols],
                        &squares[part * cols]);
    counts[part] = static_cast<double>(end - begin);
  });
  for (int64_t j = 0; j < cols; ++j) {
    double count = counts[0], center = means[j], sum = squares[j];
    for (int part = 1; part < parts; ++part) {
      const double delta = means[part * cols + j] - center, all = count + counts[part];
      center += delta * counts[part] / all;
      sum += squares[part * cols + j] + delta * delta * count * counts[part] / all;
      count = all;
    }
    mean[j] = static_cast<float>(center);
    variance[j] = static_cast<float>(sum / count);
  }
  BatchNormInference(stream, args, mean, variance, y);
}

void CpuOps::BatchNormInference(Stream&, const NormArgs& args, const float* mean,
                                const float* variance, float* y) {
  std::vector<float> scale = Inverses(args, variance);
  simd::Mul(args.cols, scale.data(), args.gain, scale.data());
  ParallelFor(PartsOf(args, threads_), args.rows, [&](int, int64_t begin, int64_t end) {
    simd::NormalizeColumns(end - begin, args.cols, args.x + begin * args.cols, mean, scale.data(),
                           args.offset, y + begin * args.cols);
  });
}

void CpuOps::BatchNormGradient(Stream&, const NormArgs& args, const float* mean,
                               const float* variance, const float* dy, float* dgain, float* doffset,
                               float* dx) {
  const int64_t cols = args.cols;
  const int parts = PartsOf(args, threads_);
  const std::vector<float> inverse = Inverses(args, variance);
  std::vector<float> gains(parts * cols), offsets(parts * cols);
  ParallelFor(parts, args.rows, [&](int part, int64_t begin, int64_t end) {
    simd::ColumnGradientSums(end - begin, cols, args.x + begin * cols, dy + begin * cols, mean,
                             inverse.data(), &gains[part * cols], &offsets[part * cols]);
  });
  std::copy_n(gains.data(), cols, dgain);
  std::copy_n(offsets.data(), cols, doffset);
  for (int part = 1; part < parts; ++part) {
    simd::Add(cols, &gains[part * cols], dgain);
    simd::Add(cols, &offsets[part * cols], doffset);
  }
  if (dx == nullptr) return;
  const float share = 1 / static_cast<float>(args.rows);
  std::vector<float> scale(cols), a(cols), b(cols);
  for (int64_t j = 0; j < cols; ++j) {
    scale[j] = args.gain[j] * inverse[j];
    a[j] = doffset[j] * share;
    b[j] = dgain[j] * share * inverse[j];
  }
  ParallelFor(parts, args.rows, [&](int, int64_t begin, int64_t end) {
    simd::ColumnGradient(end - begin, cols, args.x + begin * cols, dy + begin * cols, mean,
                         scale.data(), a.data(), b.data(), dx + begin * cols);
  });
}

void CpuOps::LayerNorm(Stream&, const NormArgs& args, float* mean, float* variance, float* y) {
  const int64_t n = args.cols;
  ParallelFor(PartsOf(args, threads_), args.rows, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = args.x + i * n;
      const simd::RowMoments moments = simd::MomentsOfRow(n, x);
      mean[i] = moments.mean;
      variance[i] = moments.variance;
      simd::NormalizeRow(n, x, mean[i], Inverse(variance[i], args.epsilon), args.gain, args.offset,
                         y + i * n);
    }
  });
}

void CpuOps::LayerNormGradient(Stream&, const NormArgs& args, const float* mean,
                               const float* variance, const float* dy, float* dgain, float* doffset,
                               float* dx) {
  const int64_t n = args.cols;
  const int parts = PartsOf(args, threads_);
  std::vector<float> gains(parts * n), offsets(parts * n);
  const float share = 1 / static_cast<float>(n);
  ParallelFor(parts, args.rows, [&](int part, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = args.x + i * n;
      const float inverse = Inverse(variance[i], args.epsilon);
      const simd::RowGradientSums sums = simd::GradientSumsOfRow(
          n, x, dy + i * n, args.gain, mean[i], inverse, &gains[part * n], &offsets[part * n]);
      if (dx == nullptr) continue;
      simd::RowGradient(n, x, dy + i * n, args.gain, mean[i], inverse, sums.g * share,
                        sums.gz * share * inverse, dx + i * n);
    }
  });
  std::copy_n(gains.data(), n, dgain);
  std::copy_n(offsets.data(), n, doffset);
  for (int part = 1; part < parts; ++part) {
    simd::Add(n, &gains[part * n], dgain);
    simd::Add(n, &offsets[part * n], doffset);
  }
}

}  // namespace muster
