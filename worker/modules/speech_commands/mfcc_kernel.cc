#include "worker/modules/speech_commands/mfcc_kernel.h"

#include <cmath>
#include <utility>

// Eight lanes are what a group needs: AVX2 serves, and the wider sets would only add code.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/modules/speech_commands/mfcc_kernel.cc"
#include <hwy/foreach_target.h>
// foreach_target comes first.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace muster::worker::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, MfccPlan::kMaxLanes>;
using V = hn::Vec<D>;

// framed [stride, columns]: framed[j][f] = pcm[f · stride + j]. Sample n of frame f is framed[n %
// stride][f + n / stride], so the same sample of neighbouring frames is contiguous.
void Frame(const MfccPlan& plan, const float* HWY_RESTRICT pcm, int samples,
           float* HWY_RESTRICT framed) {
  constexpr int kBlock = 16;
  const int columns = plan.columns();
  const int whole = samples / plan.stride;  // columns that are full
  for (int f0 = 0; f0 < columns; f0 += kBlock) {
    const int f1 = f0 + kBlock < columns ? f0 + kBlock : columns;
    if (f1 <= whole) {
      for (int j = 0; j < plan.stride; ++j) {
        for (int f = f0; f < f1; ++f) {
          framed[j * columns + f] = pcm[f * plan.stride + j];
        }
      }
    } else {
      for (int j = 0; j < plan.stride; ++j) {
        for (int f = f0; f < f1; ++f) {
          const int n = f * plan.stride + j;
          framed[j * columns + f] = n < samples ? pcm[n] : 0.0F;
        }
      }
    }
  }
}

// Windowed frames f0 … as complex points z[k] = x[2k] + i x[2k + 1]: re, im [half, lanes].
void Load(const MfccPlan& plan, const float* HWY_RESTRICT framed, int f0, float* HWY_RESTRICT re,
          float* HWY_RESTRICT im) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int columns = plan.columns();
  const int pairs = (plan.window + 1) / 2;
  const float* row = framed + f0;  // of sample n: row n % stride, moved on by n / stride columns
  int j = 0;
  const auto next = [&] {
    const V x = hn::LoadU(d, row);
    row += columns;
    if (++j == plan.stride) {
      j = 0;
      row += 1 - int64_t{columns} * plan.stride;
    }
    return x;
  };
  for (int k = 0; k < pairs; ++k) {
    const V even = next();
    const V odd = next();
    hn::StoreU(hn::Mul(even, hn::Set(d, plan.hann[2 * k])), d, re + k * lanes);
    hn::StoreU(hn::Mul(odd, hn::Set(d, plan.hann[2 * k + 1])), d, im + k * lanes);
  }
  for (int i = pairs * lanes; i < plan.half * lanes; i += lanes) {
    hn::StoreU(hn::Zero(d), d, re + i);
    hn::StoreU(hn::Zero(d), d, im + i);
  }
}

struct Complex {
  V re, im;
};

HWY_INLINE Complex Add(Complex a, Complex b) { return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)}; }
HWY_INLINE Complex Sub(Complex a, Complex b) { return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)}; }
HWY_INLINE Complex Mul(Complex a, V wr, V wi) {
  return {hn::NegMulAdd(a.im, wi, hn::Mul(a.re, wr)), hn::MulAdd(a.im, wr, hn::Mul(a.re, wi))};
}

// Stockham's autosort FFT, decimation in frequency, radix 4 with one radix-2 pass at the end where
// log₂(half) is odd. (x, y) are swapped after each pass; the result lies in (xr, xi).
void Fft(const MfccPlan& plan, float*& xr, float*& xi, float*& yr, float*& yi) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const float* w = plan.twiddles;
  int n = plan.half;
  int s = 1;
  for (; n >= 4; n /= 4, s *= 4) {
    const int m = n / 4;
    const int quarter = s * m * lanes;
    for (int p = 0; p < m; ++p, w += 6) {
      const V w1r = hn::Set(d, w[0]), w1i = hn::Set(d, w[1]);
      const V w2r = hn::Set(d, w[2]), w2i = hn::Set(d, w[3]);
      const V w3r = hn::Set(d, w[4]), w3i = hn::Set(d, w[5]);
      for (int q = 0; q < s; ++q) {
        const int from = (q + s * p) * lanes;
        const int to = (q + s * 4 * p) * lanes;
        const int step = s * lanes;
        const auto load = [&](int at) {
          return Complex{hn::LoadU(d, xr + at), hn::LoadU(d, xi + at)};
        };
        const auto store = [&](Complex z, int at) {
          hn::StoreU(z.re, d, yr + at);
          hn::StoreU(z.im, d, yi + at);
        };
        const Complex a = load(from), b = load(from + quarter);
        const Complex c = load(from + 2 * quarter), e = load(from + 3 * quarter);
        const Complex a_plus_c = Add(a, c), a_minus_c = Sub(a, c);
        const Complex b_plus_e = Add(b, e), b_minus_e = Sub(b, e);
        const Complex turned = {hn::Neg(b_minus_e.im), b_minus_e.re};  // i (b − e)
        store(Add(a_plus_c, b_plus_e), to);
        store(Mul(Sub(a_minus_c, turned), w1r, w1i), to + step);
        store(Mul(Sub(a_plus_c, b_plus_e), w2r, w2i), to + 2 * step);
        store(Mul(Add(a_minus_c, turned), w3r, w3i), to + 3 * step);
      }
    }
    std::swap(xr, yr);
    std::swap(xi, yi);
  }
  if (n == 2) {
    for (int i = 0; i < s * lanes; i += lanes) {
      const int j = i + s * lanes;
      const V ar = hn::LoadU(d, xr + i), br = hn::LoadU(d, xr + j);
      const V ai = hn::LoadU(d, xi + i), bi = hn::LoadU(d, xi + j);
      hn::StoreU(hn::Add(ar, br), d, yr + i);
      hn::StoreU(hn::Add(ai, bi), d, yi + i);
      hn::StoreU(hn::Sub(ar, br), d, yr + j);
      hn::StoreU(hn::Sub(ai, bi), d, yi + j);
    }
    std::swap(xr, yr);
    std::swap(xi, yi);
  }
}

// |X[k]| of the real signal, first_bin ≤ k ≤ last_bin, from the transform Z of its packed form:
// X[k] = E + e^(−2πik / 2half) O with E = (Z[k] + Z*[half − k]) / 2, O = −i (Z[k] − Z*[half − k])
// / 2.
void Magnitudes(const MfccPlan& plan, const float* HWY_RESTRICT re, const float* HWY_RESTRICT im,
                float* HWY_RESTRICT magnitude) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const V half = hn::Set(d, 0.5F);
  const int mask = plan.half - 1;
  const float* w = plan.untangle;
  for (int k = plan.first_bin; k <= plan.last_bin; ++k, w += 2, magnitude += lanes) {
    const int at = (k & mask) * lanes;
    const int mirror = ((plan.half - k) & mask) * lanes;
    const V ar = hn::LoadU(d, re + at), ai = hn::LoadU(d, im + at);
    const V br = hn::LoadU(d, re + mirror), bi = hn::LoadU(d, im + mirror);
    const Complex even = {hn::Add(ar, br), hn::Sub(ai, bi)};
    const Complex odd = {hn::Add(ai, bi), hn::Sub(br, ar)};
    const Complex sum = Add(even, Mul(odd, hn::Set(d, w[0]), hn::Set(d, w[1])));
    const V squared = hn::MulAdd(sum.im, sum.im, hn::Mul(sum.re, sum.re));
    hn::StoreU(hn::Mul(half, hn::Sqrt(squared)), d, magnitude);
  }
}

// logs [channels, lanes] = ln max(mel energies, floor).
void LogMel(const MfccPlan& plan, const float* HWY_RESTRICT magnitude, float* HWY_RESTRICT logs) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int c = 0; c < plan.channels; ++c) {
    const float* m = magnitude + plan.mel_first[c] * lanes;
    V sum = hn::Zero(d);
    for (int i = plan.mel_begin[c]; i < plan.mel_begin[c + 1]; ++i, m += lanes) {
      sum = hn::MulAdd(hn::LoadU(d, m), hn::Set(d, plan.mel_weights[i]), sum);
    }
    hn::StoreU(hn::Log(d, hn::Max(sum, hn::Set(d, kMfccFloor))), d, logs + c * lanes);
  }
}

// out [frame, coefficients] of the frames of this group that exist.
void Cepstrum(const MfccPlan& plan, const float* HWY_RESTRICT logs, int f0, float* out) {
  constexpr int kRows = 4;  // sums in flight
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int real = plan.frames - f0 < lanes ? plan.frames - f0 : lanes;
  for (int i = 0; i < plan.coefficients; i += kRows) {
    const int rows = plan.coefficients - i < kRows ? plan.coefficients - i : kRows;
    const float* row[kRows];
    for (int r = 0; r < kRows; ++r) {
      row[r] = plan.dct + (i + (r < rows ? r : 0)) * plan.channels;
    }
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (int c = 0; c < plan.channels; ++c) {
      const V x = hn::LoadU(d, logs + c * lanes);
      s0 = hn::MulAdd(x, hn::Set(d, row[0][c]), s0);
      s1 = hn::MulAdd(x, hn::Set(d, row[1][c]), s1);
      s2 = hn::MulAdd(x, hn::Set(d, row[2][c]), s2);
      s3 = hn::MulAdd(x, hn::Set(d, row[3][c]), s3);
    }
    float sums[kRows * MfccPlan::kMaxLanes];
    hn::StoreU(s0, d, sums);
    hn::StoreU(s1, d, sums + lanes);
    hn::StoreU(s2, d, sums + 2 * lanes);
    hn::StoreU(s3, d, sums + 3 * lanes);
    for (int f = 0; f < real; ++f) {
      for (int r = 0; r < rows; ++r) {
        out[(f0 + f) * plan.coefficients + i + r] = sums[r * lanes + f];
      }
    }
  }
}

void Compute(const MfccPlan& plan, const float* pcm, int samples, float* scratch, float* out) {
  const int lanes = static_cast<int>(hn::Lanes(D()));
  const int points = plan.half * MfccPlan::kMaxLanes;
  float* buffers[4] = {scratch, scratch + points, scratch + 2 * points, scratch + 3 * points};
  float* magnitude = scratch + 4 * points;
  float* logs = magnitude + (plan.last_bin - plan.first_bin + 1) * MfccPlan::kMaxLanes;
  float* framed = logs + plan.channels * MfccPlan::kMaxLanes;
  Frame(plan, pcm, samples, framed);
  for (int f0 = 0; f0 < plan.frames; f0 += lanes) {
    float *xr = buffers[0], *xi = buffers[1], *yr = buffers[2], *yi = buffers[3];
    Load(plan, framed, f0, xr, xi);
    Fft(plan, xr, xi, yr, yi);
    Magnitudes(plan, xr, xi, magnitude);
    LogMel(plan, magnitude, logs);
    Cepstrum(plan, logs, f0, out);
  }
}

}  // namespace
}  // namespace muster::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster::worker {

HWY_EXPORT(Compute);

void ComputeMfcc(const MfccPlan& plan, const float* pcm, int samples, float* scratch, float* out) {
  HWY_DYNAMIC_DISPATCH(Compute)(plan, pcm, samples, scratch, out);
}

}  // namespace muster::worker
#endif  // HWY_ONCE
