// Convolutions against the formula, written as loops, on each device.
#include <gtest/gtest.h>

#include <tuple>

#include "kernels/device.h"
#include "kernels/device_ops.h"
#include "kernels/mirror.h"
#include "tests/harness/devices.h"
#include "tests/kernels/reference.h"

namespace muster {
namespace {

using testing::Tolerance;
using testing::Uniform;

TEST(WindowTest, SamePadsTheOddPixelAtTheEnd) {
  const Window w = Window::Make({98, 40}, {20, 8}, {1, 1}, Padding::kSame);
  EXPECT_EQ(w.out, (Extent{98, 40}));
  EXPECT_EQ(w.pad, (Extent{9, 3}));  // of 19 and 7
}

TEST(WindowTest, SameWithStridesRoundsUp) {
  const Window w = Window::Make({98, 41}, {10, 8}, {2, 2}, Padding::kSame);
  EXPECT_EQ(w.out, (Extent{49, 21}));
  EXPECT_EQ(w.pad, (Extent{4, 3}));  // of 8 and 7
}

TEST(WindowTest, SameWithAStrideBeyondTheKernelPadsNothing) {
  const Window w = Window::Make({7, 6}, {1, 2}, {3, 3}, Padding::kSame);
  EXPECT_EQ(w.out, (Extent{3, 2}));
  EXPECT_EQ(w.pad, (Extent{0, 0}));
}

TEST(WindowTest, ValidPadsNothingAndRoundsDown) {
  const Window w = Window::Make({98, 40}, {98, 8}, {1, 3}, Padding::kValid);
  EXPECT_EQ(w.out, (Extent{1, 11}));
  EXPECT_EQ(w.pad, (Extent{0, 0}));
}

struct Case {
  Extent in, kernel, stride;
  Padding padding;
  int64_t in_channels, out_channels, n;
};

// Calls f(x index, w index, y index) for each product of the convolution.
template <class F>
void ForEachProduct(const Conv2dArgs& a, int64_t n, const F& f) {
  const Window& w = a.window;
  for (int64_t s = 0; s < n; ++s) {
    for (int64_t i = 0; i < w.out.h; ++i) {
      for (int64_t j = 0; j < w.out.w; ++j) {
        for (int64_t p = 0; p < w.kernel.h; ++p) {
          for (int64_t q = 0; q < w.kernel.w; ++q) {
            const int64_t r = i * w.stride.h + p - w.pad.h, c = j * w.stride.w + q - w.pad.w;
            if (r < 0 || r >= w.in.h || c < 0 || c >= w.in.w) continue;
            for (int64_t ic = 0; ic < a.in_channels; ++ic) {
              for (int64_t oc = 0; oc < a.out_channels; ++oc) {
                f(((s * w.in.h + r) * w.in.w + c) * a.in_channels + ic,
                  ((p * w.kernel.w + q) * a.in_channels + ic) * a.out_channels + oc,
                  ((s * w.out.h + i) * w.out.w + j) * a.out_channels + oc);
              }
            }
          }
        }
      }
    }
  }
}

void ExpectNear(const std::vector<float>& got, const std::vector<double>& want, int64_t terms) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], Tolerance(terms)) << i;
}

class Conv2dTest : public ::testing::TestWithParam<std::tuple<std::string, Case>> {};

TEST_P(Conv2dTest, ComputesTheFormulaInAllDirections) {
  const auto& [name, k] = GetParam();
  const auto device = testing::MakeTestDevice(name);
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  const Conv2dArgs args{Window::Make(k.in, k.kernel, k.stride, k.padding), k.in_channels,
                        k.out_channels};
  const Window& w = args.window;
  const int64_t x_size = k.n * k.in.h * k.in.w * k.in_channels;
  const int64_t w_size = args.patch() * k.out_channels;
  const int64_t y_size = k.n * w.out.h * w.out.w * k.out_channels;
  const auto x = Uniform(x_size, 1), weights = Uniform(w_size, 2),
             bias = Uniform(k.out_channels, 3), dy = Uniform(y_size, 4);
  std::vector<double> want_y(y_size), want_dx(x_size), want_dw(w_size), want_db(k.out_channels);
  for (int64_t i = 0; i < y_size; ++i) {
    want_y[i] = bias[i % k.out_channels];
    want_db[i % k.out_channels] += dy[i];
  }
  ForEachProduct(args, k.n, [&](int64_t at_x, int64_t at_w, int64_t at_y) {
    want_y[at_y] += double{x[at_x]} * weights[at_w];
    want_dx[at_x] += double{dy[at_y]} * weights[at_w];
    want_dw[at_w] += double{dy[at_y]} * x[at_x];
  });

  const auto stream = (*device)->MakeStream();
  const auto plan = (*device)->ops().MakeConv2d(args);
  // What was there before must not matter.
  std::vector<float> y(y_size, 7), dx(x_size, 7), dw(w_size, 7), db(k.out_channels, 7);
  Mirror on(*stream);
  const float* const on_x = on.In(x, {x_size}).data();
  const float* const on_w = on.In(weights, {w_size}).data();
  const float* const on_bias = on.In(bias, {k.out_channels}).data();
  const float* const on_dy = on.In(dy, {y_size}).data();
  plan->Forward(*stream, k.n, on_x, on_w, on_bias, on.Out(y, {y_size}).data());
  plan->BackwardData(*stream, k.n, on_dy, on_w, on.Out(dx, {x_size}).data());
  plan->BackwardWeights(*stream, k.n, on_x, on_dy, on.Out(dw, {w_size}).data(),
                        on.Out(db, {k.out_channels}).data());
  // A batch of another size uses the same plan; the first samples give the same.
  std::vector<float> first(y_size / k.n, 7);
  plan->Forward(*stream, 1, on_x, on_w, on_bias, on.Out(first, {y_size / k.n}).data());
  // Without a bias, and without its gradient.
  std::vector<float> bare(y_size, 7), bare_dw(w_size, 7);
  plan->Forward(*stream, k.n, on_x, on_w, nullptr, on.Out(bare, {y_size}).data());
  plan->BackwardWeights(*stream, k.n, on_x, on_dy, on.Out(bare_dw, {w_size}).data(), nullptr);
  const absl::Status status = on.Finish();
  ASSERT_TRUE(status.ok()) << status.message();
  const int64_t pixels = k.n * w.out.h * w.out.w;
  ExpectNear(y, want_y, args.patch());
  ExpectNear(dx, want_dx, k.kernel.h * k.kernel.w * k.out_channels);
  ExpectNear(dw, want_dw, pixels);
  ExpectNear(db, want_db, pixels);
  EXPECT_EQ(bare_dw, dw);
  for (int64_t i = 0; i < y_size; ++i) {
    ASSERT_NEAR(bare[i], want_y[i] - bias[i % k.out_channels], Tolerance(args.patch())) << i;
  }
  ExpectNear(first, {want_y.begin(), want_y.begin() + y_size / k.n}, args.patch());
}

constexpr Extent kOne{1, 1};

INSTANTIATE_TEST_SUITE_P(
    Shapes, Conv2dTest,
    ::testing::Combine(
        ::testing::ValuesIn(testing::DeviceNames()),
        ::testing::Values(
            // One channel goes by patches; whole vectors of channels by direct kernels.
            Case{{9, 6}, {4, 3}, kOne, Padding::kSame, 1, 2, 3},
            Case{{98, 40}, {20, 8}, kOne, Padding::kSame, 1, 8, 2},
            Case{{11, 8}, {10, 8}, {2, 2}, Padding::kSame, 1, 8, 2},
            Case{{12, 9}, {12, 8}, kOne, Padding::kValid, 1, 5, 3},
            Case{{8, 7}, {3, 2}, {3, 2}, Padding::kSame, 3, 4, 2},
            Case{{8, 7}, {3, 2}, {2, 3}, Padding::kValid, 3, 17, 2},
            Case{{9, 6}, {4, 2}, kOne, Padding::kSame, 16, 32, 3},
            Case{{13, 10}, {10, 4}, kOne, Padding::kSame, 64, 64, 2},
            Case{{9, 7}, {3, 3}, {2, 2}, Padding::kSame, 32, 16, 2},
            Case{{9, 7}, {3, 4}, {1, 2}, Padding::kValid, 20, 24, 2},
            Case{{5, 3}, {1, 1}, kOne, Padding::kValid, 16, 16, 4})),
    [](const auto& info) { return std::get<0>(info.param) + "_" + std::to_string(info.index); });

TEST(Conv2dDeterminismTest, TheSameThreadsGiveTheSameBits) {
  for (const int64_t channels : {1, 32}) {
    for (const int threads : {1, 2, 3}) {
      const Conv2dArgs args{Window::Make({30, 20}, {5, 4}, {1, 1}, Padding::kSame), channels, 32};
      const auto x = Uniform(7 * 600 * channels, 1), dy = Uniform(7 * 600 * 32, 2);
      std::vector<float> dw[2], db[2];
      for (int run = 0; run < 2; ++run) {
        const auto device = MakeCpuDevice(threads);
        const auto stream = device->MakeStream();
        dw[run].resize(args.patch() * 32);
        db[run].resize(32);
        device->ops().MakeConv2d(args)->BackwardWeights(*stream, 7, x.data(), dy.data(),
                                                        dw[run].data(), db[run].data());
      }
      EXPECT_EQ(dw[0], dw[1]) << channels << " channels, " << threads << " threads";
      EXPECT_EQ(db[0], db[1]) << channels << " channels, " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace muster
