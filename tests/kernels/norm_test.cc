// The norms against their formulas in float64, on each device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/mirror.h"
#include "kernels/op.h"
#include "tests/harness/device_test.h"
#include "tests/kernels/reference.h"

namespace muster {
namespace {

using testing::Tolerance;
using testing::Uniform;
using Values = std::vector<float>;

constexpr float kEpsilon = 1e-3f;

// What the two norms have in common: x [rows, cols] and the moments of each of `groups`.
struct Case {
  bool of_rows;  // layer norm
  int64_t rows, cols;
  float shift = 0;  // of x, which is uniform in [-1, 1) but for that

  Shape shape() const { return {rows, cols}; }
  int64_t groups() const { return of_rows ? rows : cols; }
  int64_t group_size() const { return of_rows ? cols : rows; }
  size_t Group(int64_t i) const { return static_cast<size_t>(of_rows ? i / cols : i % cols); }
  size_t Column(int64_t i) const { return static_cast<size_t>(i % cols); }
  int64_t size() const { return rows * cols; }
};

struct Inputs {
  Values x, gain, offset, dy;
};

Inputs MakeInputs(const Case& c) {
  Inputs in{Uniform(c.size(), 1), Uniform(c.cols, 2), Uniform(c.cols, 3), Uniform(c.size(), 4)};
  for (float& x : in.x) x += c.shift;
  return in;
}

struct Results {
  explicit Results(const Case& c)
      : mean(static_cast<size_t>(c.groups()), 7.0f),
        variance(mean),
        y(static_cast<size_t>(c.size()), 7.0f),
        dgain(static_cast<size_t>(c.cols), 7.0f),
        doffset(dgain),
        dx(y) {}
  Values mean, variance, y, dgain, doffset, dx;
  bool operator==(const Results&) const = default;
};

// The formulas of device_ops.h.
struct Wanted {
  explicit Wanted(const Case& c, const Inputs& in)
      : mean(static_cast<size_t>(c.groups())),
        variance(mean),
        y(static_cast<size_t>(c.size())),
        dgain(static_cast<size_t>(c.cols)),
        doffset(dgain),
        dx(y) {
    const auto count = static_cast<double>(c.group_size());
    for (int64_t i = 0; i < c.size(); ++i) mean[c.Group(i)] += in.x[i] / count;
    for (int64_t i = 0; i < c.size(); ++i) {
      variance[c.Group(i)] += std::pow(in.x[i] - mean[c.Group(i)], 2) / count;
    }
    std::vector<double> g_mean(mean.size()), gz_mean(mean.size()), z(y.size());
    for (int64_t i = 0; i < c.size(); ++i) {
      const size_t group = c.Group(i), column = c.Column(i);
      z[i] = (in.x[i] - mean[group]) / std::sqrt(variance[group] + double{kEpsilon});
      y[i] = in.gain[column] * z[i] + in.offset[column];
      dgain[column] += in.dy[i] * z[i];
      doffset[column] += in.dy[i];
      g_mean[group] += double{in.dy[i]} * in.gain[column] / count;
      gz_mean[group] += in.dy[i] * in.gain[column] * z[i] / count;
    }
    for (int64_t i = 0; i < c.size(); ++i) {
      const size_t group = c.Group(i);
      const double g = double{in.dy[i]} * in.gain[c.Column(i)];
      dx[i] = (g - g_mean[group] - z[i] * gz_mean[group]) /
              std::sqrt(variance[group] + double{kEpsilon});
    }
  }
  std::vector<double> mean, variance, y, dgain, doffset, dx;
};

class NormTest : public testing::DeviceTest {
 protected:
  Results Run(const Case& c, const Inputs& in) {
    Results r(c);
    Mirror on(*stream_);
    const Shape cols{c.cols}, groups{c.groups()};
    const auto forward = c.of_rows ? LayerNorm : BatchNorm;
    const auto backward = c.of_rows ? LayerNormGradient : BatchNormGradient;
    forward(*stream_, kEpsilon, on.In(in.x, c.shape()), on.In(in.gain, cols),
            on.In(in.offset, cols), on.Out(r.mean, groups), on.Out(r.variance, groups),
            on.Out(r.y, c.shape()));
    backward(*stream_, kEpsilon, on.In(in.x, c.shape()), on.In(in.gain, cols),
             on.Out(r.mean, groups), on.Out(r.variance, groups), on.In(in.dy, c.shape()),
             on.Out(r.dgain, cols), on.Out(r.doffset, cols), on.Out(r.dx, c.shape()));
    const absl::Status status = on.Finish();
    EXPECT_TRUE(status.ok()) << status;
    return r;
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, NormTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

void ExpectNear(const char* what, const Values& got, const std::vector<double>& want,
                double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << what << i;
}

// Widths that kernels take by fours, by vectors and one by one; heights of one, two and three
// passes.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const bool of_rows : {false, true}) {
    for (const float shift : {0.0f, 10.0f}) {
      cases.push_back({of_rows, 1, 7, shift});
      cases.push_back({of_rows, 7, 1, shift});
      cases.push_back({of_rows, 5, 64, shift});
      cases.push_back({of_rows, 9, 12, shift});
      cases.push_back({of_rows, 300, 186, shift});
      cases.push_back({of_rows, 3, 5001, shift});
      cases.push_back({of_rows, 2, 70'000, shift});
      cases.push_back({of_rows, 5000, 24, shift});
      cases.push_back({of_rows, 70'001, 3, shift});
    }
  }
  return cases;
}

TEST_P(NormTest, GivesItsFormula) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(::testing::Message() << (c.of_rows ? "layer" : "batch") << " norm of [" << c.rows
                                      << ", " << c.cols << "] + " << c.shift);
    const Inputs in = MakeInputs(c);
    const Wanted want(c, in);
    const Results got = Run(c, in);
    // x is rounded at its own size, and 1 / deviation multiplies what that leaves of x - mean;
    // where a group has few values, that may be 1 / sqrt(epsilon). Sums begin with 64 terms.
    const double largest = std::abs(c.shift) + 1;
    double inverse = 0;
    for (const double v : want.variance) {
      inverse = std::max(inverse, 1 / std::sqrt(v + double{kEpsilon}));
    }
    const double z = Tolerance(64) * largest * inverse;
    ExpectNear("mean ", got.mean, want.mean, Tolerance(64) * largest);
    ExpectNear("variance ", got.variance, want.variance, Tolerance(64) * largest);
    ExpectNear("y ", got.y, want.y, z);
    const double sums = std::sqrt(static_cast<double>(c.rows));
    ExpectNear("dgain ", got.dgain, want.dgain, 2 * z * sums);
    ExpectNear("doffset ", got.doffset, want.doffset, Tolerance(64) * sums);
    ExpectNear("dx ", got.dx, want.dx, 4 * z * inverse);
  }
}

TEST_P(NormTest, AVarianceThatIsSmallBesideTheMeanIsNotLost) {
  for (const bool of_rows : {false, true}) {
    const Case c{of_rows, of_rows ? 4 : 600, of_rows ? 600 : 4};
    Inputs in = MakeInputs(c);
    // The mean of x² is 2^24, where float32 knows whole numbers alone; the variance is 2^-16.
    for (int64_t i = 0; i < c.size(); ++i) {
      const int64_t place = of_rows ? i % c.cols : i / c.cols;
      in.x[i] = 4096 + (place % 2 == 0 ? 0x1p-8f : -0x1p-8f);
    }
    const Results got = Run(c, in);
    // float32 has a mean of 4096 to 2^-12, a sixteenth of the deviation.
    for (const float v : got.variance) EXPECT_NEAR(v, 0x1p-16, 0x1p-16 / 16) << of_rows;
  }
}

TEST_P(NormTest, TheSameArgumentsGiveTheSameBits) {
  for (const Case& c : Cases()) {
    const Inputs in = MakeInputs(c);
    EXPECT_EQ(Run(c, in), Run(c, in));
  }
}

TEST_P(NormTest, TheGradientMayLieOverEitherInputOrBeLeftOut) {
  for (const bool of_rows : {false, true}) {
    for (const int64_t cols : {12, 13}) {
      const Case c{of_rows, 70, cols};
      const Inputs in = MakeInputs(c);
      const Results want = Run(c, in);
      const auto backward = of_rows ? LayerNormGradient : BatchNormGradient;
      for (const int over : {0, 1, 2}) {
        Values x = in.x, dy = in.dy, dgain = want.dgain, doffset = want.doffset;
        std::fill(dgain.begin(), dgain.end(), 7.0f);
        std::fill(doffset.begin(), doffset.end(), 7.0f);
        Mirror on(*stream_);
        const Tensor at_x = on.Out(x, c.shape()), at_dy = on.Out(dy, c.shape());
        backward(*stream_, kEpsilon, at_x, on.In(in.gain, {cols}), on.In(want.mean, {c.groups()}),
                 on.In(want.variance, {c.groups()}), at_dy, on.Out(dgain, {cols}),
                 on.Out(doffset, {cols}),
                 over == 0   ? at_x
                 : over == 1 ? at_dy
                             : Tensor());
        ASSERT_TRUE(on.Finish().ok());
        EXPECT_EQ(x, over == 0 ? want.dx : in.x) << over;
        EXPECT_EQ(dy, over == 1 ? want.dx : in.dy) << over;
        EXPECT_EQ(dgain, want.dgain) << over;
        EXPECT_EQ(doffset, want.doffset) << over;
      }
    }
  }
}

TEST_P(NormTest, InferenceTakesTheMomentsThatItIsGiven) {
  for (const int64_t cols : {3, 64}) {
    const Case c{false, 100, cols};
    const Inputs in = MakeInputs(c);
    const Values mean = Uniform(cols, 5);
    Values variance = Uniform(cols, 6);
    for (float& v : variance) v += 1.5f;
    Values y = in.x;
    Mirror on(*stream_);
    const Tensor over = on.Out(y, c.shape());
    BatchNormInference(*stream_, kEpsilon, over, on.In(in.gain, {cols}), on.In(in.offset, {cols}),
                       on.In(mean, {cols}), on.In(variance, {cols}), over);
    ASSERT_TRUE(on.Finish().ok());
    for (int64_t i = 0; i < c.size(); ++i) {
      const size_t j = c.Column(i);
      const double z = (double{in.x[i]} - mean[j]) / std::sqrt(double{variance[j]} + kEpsilon);
      ASSERT_NEAR(y[i], in.gain[j] * z + in.offset[j], Tolerance(8)) << i;
    }
  }
}

}  // namespace
}  // namespace muster
