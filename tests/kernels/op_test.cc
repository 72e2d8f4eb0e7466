// Each op against a loop that is plainly right, over random shapes, on each device.
#include "kernels/op.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/mirror.h"
#include "tests/harness/device_test.h"
#include "tests/kernels/reference.h"

namespace muster {
namespace {

using testing::Distinct;
using testing::Tolerance;
using testing::Uniform;

class OpTest : public testing::DeviceTest {
 protected:
  int64_t Draw(int64_t low, int64_t high) {
    return low + UniformInt(DeriveKey(kSeed, 0), draws_++, 0, high - low + 1);
  }
  void SetUp() override {
    RecordProperty("seed", kSeed);
    DeviceTest::SetUp();
  }

  static constexpr int kSeed = 20261121;
  uint64_t draws_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Devices, OpTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

TEST_P(OpTest, MatMulWithAllTransposes) {
  for (int round = 0; round < 40; ++round) {
    const int64_t m = Draw(1, 40), n = Draw(1, 40), k = Draw(1, 70);
    const bool trans_a = Draw(0, 1), trans_b = Draw(0, 1);
    const auto beta = static_cast<float>(Draw(0, 1));
    const bool biased = beta == 0 && Draw(0, 1);
    const auto a = Uniform(m * k, 1), b = Uniform(k * n, 2), before = Uniform(m * n, 3);
    const auto bias = Uniform(n, 4);
    auto c = before;
    Mirror on(*stream_);
    MatMul(*stream_, on.In(a, trans_a ? Shape{k, m} : Shape{m, k}),
           on.In(b, trans_b ? Shape{n, k} : Shape{k, n}), on.Out(c, {m, n}),
           {trans_a, trans_b, 1, beta, biased ? on.In(bias, {n}) : ConstTensor()});
    Finish(on);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double want = beta * before[i * n + j] + (biased ? bias[j] : 0);
        for (int64_t p = 0; p < k; ++p) {
          want += double{trans_a ? a[p * m + i] : a[i * k + p]} *
                  (trans_b ? b[j * k + p] : b[p * n + j]);
        }
        ASSERT_NEAR(c[i * n + j], want, Tolerance(k + 1)) << m << " " << n << " " << k;
      }
    }
  }
}

TEST_P(OpTest, RowsAreBroadcastAndSummed) {
  for (const int64_t rows : {1, 3, 5000}) {
    const int64_t cols = Draw(1, 100);
    const auto x = Uniform(rows * cols, 1);
    std::vector<float> sum(cols, 7), y(rows * cols, 7);
    Mirror on(*stream_);
    SumRows(*stream_, on.In(x, {rows, cols}), on.Out(sum, {cols}));
    BroadcastRow(*stream_, on.Out(sum, {cols}), on.Out(y, {rows, cols}));
    Finish(on);
    for (int64_t j = 0; j < cols; ++j) {
      double want = 0;
      for (int64_t i = 0; i < rows; ++i) want += x[i * cols + j];
      ASSERT_NEAR(sum[j], want, Tolerance(rows));
      for (int64_t i = 0; i < rows; ++i) ASSERT_EQ(y[i * cols + j], sum[j]);
    }
  }
}

TEST_P(OpTest, AxpyAndFill) {
  for (const int64_t n : {1, 17, 100003}) {
    const auto x = Uniform(n, 1), before = Uniform(n, 2);
    auto y = before;
    Mirror on(*stream_);
    Axpy(*stream_, 0.5f, on.In(x, {n}), on.Out(y, {n}));
    Finish(on);
    for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], 0.5 * x[i] + before[i], Tolerance(1));
    Fill(*stream_, 3, on.Out(y, {n}));
    Finish(on);
    ASSERT_EQ(std::count(y.begin(), y.end(), 3.0f), n);
  }
}

TEST_P(OpTest, ReluKeepsAMaskOfWhatIsLeftAndItsGradientFollowsIt) {
  for (int round = 0; round < 30; ++round) {
    const int64_t n = Draw(1, 5), features = Draw(1, 400);
    const auto x = Uniform(n * features, round), dy = Uniform(n * features, round + 100);
    std::vector<float> y(x.size(), 7), dx(x.size(), 7);
    std::vector<uint32_t> mask(n * MaskWords(features), 7);
    Mirror on(*stream_);
    ReluDropout(*stream_, {}, on.In(x, {n, features}), on.Out(y, {n, features}),
                on.Out(mask, {n, MaskWords(features)}));
    MaskedScale(*stream_, on.Out(mask, {n, MaskWords(features)}), 2, on.In(dy, {n, features}),
                on.Out(dx, {n, features}));
    Finish(on);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i], std::max(x[i], 0.0f)) << i;
      ASSERT_EQ(dx[i], x[i] > 0 ? 2 * dy[i] : 0.0f) << i;
    }
  }
}

// The bits kept of [n, features], as dropout of ones tells.
std::vector<float> DropoutOfOnes(Stream& stream, const DropoutArgs& dropout, int64_t n,
                                 int64_t features) {
  std::vector<float> x(n * features, 1);
  Mirror on(stream);
  Dropout(stream, dropout, on.Out(x, {n, features}), on.Out(x, {n, features}));
  EXPECT_TRUE(on.Finish().ok());
  return x;
}

TEST_P(OpTest, DropoutKeepsItsShareAndTheMean) {
  for (const float rate : {0.5f, 0.25f, 0.1f, 0.75f}) {
    const DropoutArgs dropout{DeriveKey(1, 2), 3, rate};
    const double keep = dropout.keep_of_256() / 256.0;
    EXPECT_NEAR(keep, 1 - rate, 0.5 / 256);
    constexpr int64_t kCount = 100000;
    const auto y = DropoutOfOnes(*stream_, dropout, 10, kCount / 10);
    const auto kept = kCount - std::count(y.begin(), y.end(), 0.0f);
    EXPECT_EQ(std::count(y.begin(), y.end(), dropout.scale()), kept);
    // Six deviations of a binomial.
    EXPECT_NEAR(static_cast<double>(kept), keep * kCount,
                6 * std::sqrt(kCount * keep * (1 - keep)));
  }
}

TEST_P(OpTest, DropoutIsAFunctionOfSampleAndElementNotOfTheBatch) {
  const DropoutArgs dropout{DeriveKey(1, 2), 3, 0.5f};
  constexpr int64_t kFeatures = 300;
  const auto large = DropoutOfOnes(*stream_, dropout, 7, kFeatures);
  const auto small = DropoutOfOnes(*stream_, dropout, 2, kFeatures);
  EXPECT_TRUE(std::equal(small.begin(), small.end(), large.begin()));
  // A share of the batch: samples 5 and 6.
  const auto share =
      DropoutOfOnes(*stream_, {dropout.key, 3, 0.5f, /*first_sample=*/5}, 2, kFeatures);
  EXPECT_TRUE(std::equal(share.begin(), share.end(), large.begin() + 5 * kFeatures));
  const auto other = MakeCpuDevice(4);
  EXPECT_EQ(large, DropoutOfOnes(*other->MakeStream(), dropout, 7, kFeatures));
}

TEST_P(OpTest, DropoutDiffersBetweenSamplesStepsAndKeys) {
  constexpr int64_t kFeatures = 300;
  const auto first = DropoutOfOnes(*stream_, {DeriveKey(1, 2), 3, 0.5f}, 2, kFeatures);
  EXPECT_FALSE(std::equal(first.begin(), first.begin() + kFeatures, first.begin() + kFeatures));
  EXPECT_NE(first, DropoutOfOnes(*stream_, {DeriveKey(1, 2), 4, 0.5f}, 2, kFeatures));
  EXPECT_NE(first, DropoutOfOnes(*stream_, {DeriveKey(1, 3), 3, 0.5f}, 2, kFeatures));
}

TEST_P(OpTest, DropoutReadsTheStepWhereItLies) {
  constexpr int64_t kStep = 5'000'000'003;
  const Buffer step(*device_, sizeof(int64_t));
  device_->ops().Store(*stream_, kStep, step.data<int64_t>());
  DropoutArgs dropout{DeriveKey(1, 2), kStep, 0.5f};
  const auto want = DropoutOfOnes(*stream_, dropout, 2, 300);
  dropout.step = 3;
  EXPECT_NE(DropoutOfOnes(*stream_, dropout, 2, 300), want);
  dropout.step_at = step.data<int64_t>();
  EXPECT_EQ(DropoutOfOnes(*stream_, dropout, 2, 300), want);
  device_->ops().Store(*stream_, 3, step.data<int64_t>());
  EXPECT_NE(DropoutOfOnes(*stream_, dropout, 2, 300), want);
}

TEST_P(OpTest, ReluDropoutIsDropoutOfRelu) {
  constexpr int64_t kN = 3, kFeatures = 333;
  const DropoutArgs dropout{DeriveKey(1, 2), 3, 0.25f};
  const auto x = Uniform(kN * kFeatures, 1);
  std::vector<float> y(x.size()), want(x.size());
  std::vector<uint32_t> mask(kN * MaskWords(kFeatures));
  for (size_t i = 0; i < x.size(); ++i) want[i] = std::max(x[i], 0.0f);
  const Shape shape{kN, kFeatures};
  Mirror on(*stream_);
  ReluDropout(*stream_, dropout, on.In(x, shape), on.Out(y, shape),
              on.Out(mask, {kN, MaskWords(kFeatures)}));
  Dropout(*stream_, dropout, on.Out(want, shape), on.Out(want, shape));
  Finish(on);
  EXPECT_EQ(y, want);
  for (int64_t s = 0; s < kN; ++s) {
    for (int64_t e = 0; e < kFeatures; ++e) {
      const bool bit = mask[s * MaskWords(kFeatures) + e / 32] >> (e % 32) & 1;
      ASSERT_EQ(bit, y[s * kFeatures + e] > 0);
    }
  }
}

// As if it had been added before: the same sums, so the same bits.
TEST_P(OpTest, ActivationsAddABiasFirst) {
  for (int round = 0; round < 30; ++round) {
    const Extent in{Draw(1, 9), Draw(1, 9)};
    const int64_t n = Draw(1, 3), channels = Draw(1, 40), features = in.h * in.w * channels;
    PoolArgs pool{Window::Make(in, {2, 2}, {2, 2}, Padding::kSame), channels, /*relu=*/true};
    if (Draw(0, 1)) pool.dropout = {DeriveKey(1, round), 2, 0.5f};
    const Shape flat{n, features}, images{n, in.h, in.w, channels},
        mask_shape{n, MaskWords(features)},
        pooled{n, pool.window.out.h, pool.window.out.w, channels};
    const auto x = Uniform(n * features, round), bias = Uniform(channels, round + 100);
    auto sum = x;
    for (size_t e = 0; e < sum.size(); ++e) sum[e] += bias[e % static_cast<size_t>(channels)];
    std::vector<float> y[2], top[2];
    std::vector<uint32_t> mask[2];
    std::vector<uint8_t> winners[2];
    Mirror on(*stream_);
    const float* const on_bias = on.In(bias, {channels}).data();
    for (const int added : {0, 1}) {
      y[added].resize(x.size()), mask[added].resize(static_cast<size_t>(mask_shape.size()));
      top[added].resize(static_cast<size_t>(pooled.size())),
          winners[added].resize(top[added].size());
      const auto& from = added == 1 ? sum : x;
      pool.bias = added == 1 ? nullptr : on_bias;
      ReluDropout(*stream_, pool.dropout, on.In(from, flat), on.Out(y[added], flat),
                  on.Out(mask[added], mask_shape), {pool.bias, channels});
      MaxPool(*stream_, pool, on.In(from, images), on.Out(top[added], pooled),
              on.Out(winners[added], pooled));
    }
    Finish(on);
    EXPECT_EQ(y[0], y[1]) << "round " << round;
    EXPECT_EQ(mask[0], mask[1]) << "round " << round;
    EXPECT_EQ(top[0], top[1]) << "round " << round;
    EXPECT_EQ(winners[0], winners[1]) << "round " << round;
  }
}

TEST_P(OpTest, MaxPoolAndItsGradient) {
  for (int round = 0; round < 60; ++round) {
    const Extent in{Draw(1, 9), Draw(1, 9)};
    // Also windows that overlap, leave gaps, or hang over the border.
    const Extent kernel{Draw(1, std::min<int64_t>(3, in.h)), Draw(1, std::min<int64_t>(3, in.w))};
    const Extent stride{Draw(1, 3), Draw(1, 3)};
    const int64_t n = Draw(1, 3), channels = Draw(1, 40);
    PoolArgs pool{Window::Make(in, kernel, stride, Draw(0, 1) ? Padding::kSame : Padding::kValid),
                  channels};
    pool.relu = Draw(0, 1);
    if (pool.relu && Draw(0, 1)) pool.dropout = {DeriveKey(1, round), 2, 0.5f, Draw(0, 50)};
    const Window& w = pool.window;
    const Shape in_shape{n, in.h, in.w, channels}, out_shape{n, w.out.h, w.out.w, channels};
    const auto x = Distinct(in_shape.size(), round), dy = Uniform(out_shape.size(), round + 100);
    auto pooled = x;  // what the maxima are of
    if (pool.relu) {
      for (float& v : pooled) v = std::max(v, 0.0f);
      if (pool.dropout.rate > 0) {
        const Shape flat{n, in.h * in.w * channels};
        Mirror on(*stream_);
        Dropout(*stream_, pool.dropout, on.Out(pooled, flat), on.Out(pooled, flat));
        Finish(on);
      }
    }
    std::vector<float> y(dy.size(), 7), dx(x.size(), 7), want_dx(x.size());
    std::vector<uint8_t> winners(dy.size(), 7);
    Mirror on(*stream_);
    MaxPool(*stream_, pool, on.In(x, in_shape), on.Out(y, out_shape), on.Out(winners, out_shape));
    MaxPoolGradient(*stream_, pool, on.Out(winners, out_shape), on.In(dy, out_shape),
                    on.Out(dx, in_shape));
    Finish(on);
    for (int64_t at = 0; at < out_shape.size(); ++at) {
      const int64_t c = at % channels, j = at / channels % w.out.w;
      const int64_t i = at / channels / w.out.w % w.out.h, s = at / channels / w.out.w / w.out.h;
      int64_t best = -1;
      for (int64_t a = 0; a < kernel.h; ++a) {
        for (int64_t b = 0; b < kernel.w; ++b) {
          const int64_t r = i * stride.h + a - w.pad.h, q = j * stride.w + b - w.pad.w;
          if (r < 0 || r >= in.h || q < 0 || q >= in.w) continue;
          const int64_t e = ((s * in.h + r) * in.w + q) * channels + c;
          if (best < 0 || pooled[e] > pooled[best]) best = e;
        }
      }
      ASSERT_GE(best, 0);
      ASSERT_FLOAT_EQ(y[at], pooled[best]) << "round " << round;
      if (!pool.relu || pooled[best] > 0) want_dx[best] += dy[at] * pool.dropout.scale();
    }
    for (size_t e = 0; e < x.size(); ++e) {
      ASSERT_NEAR(dx[e], want_dx[e], 2 * Tolerance(9)) << "round " << round;
    }
  }
}

TEST_P(OpTest, SoftmaxCrossEntropyAndItsGradient) {
  for (int round = 0; round < 20; ++round) {
    const int64_t n = Draw(1, 20), classes = Draw(2, 15);
    const auto x = Uniform(n * classes, round);
    std::vector<int32_t> label(n);
    for (int32_t& l : label) l = static_cast<int32_t>(Draw(0, classes - 1));
    std::vector<float> loss(n), dx(x.size());
    Mirror on(*stream_);
    // Of a batch of which other devices may compute the rest.
    const int64_t batch = n + Draw(0, 20);
    SoftmaxCrossEntropy(*stream_, on.In(x, {n, classes}), on.In(label, {n}), batch,
                        on.Out(loss, {n}), on.Out(dx, {n, classes}));
    Finish(on);
    for (int64_t s = 0; s < n; ++s) {
      double sum = 0;
      for (int64_t c = 0; c < classes; ++c) sum += std::exp(double{x[s * classes + c]});
      ASSERT_NEAR(loss[s], std::log(sum) - x[s * classes + label[s]], 1e-6);
      for (int64_t c = 0; c < classes; ++c) {
        const double p = std::exp(double{x[s * classes + c]}) / sum;
        ASSERT_NEAR(dx[s * classes + c], (p - (c == label[s])) / static_cast<double>(batch), 1e-7);
      }
    }
  }
}

TEST_P(OpTest, SoftmaxCrossEntropyStandsLargeLogits) {
  const std::vector<float> x = {1000, -1000, 1000};
  const std::vector<int32_t> label = {1};
  std::vector<float> loss(1), dx(3);
  Mirror on(*stream_);
  SoftmaxCrossEntropy(*stream_, on.In(x, {1, 3}), on.In(label, {1}), 1, on.Out(loss, {1}),
                      on.Out(dx, {1, 3}));
  Finish(on);
  EXPECT_FLOAT_EQ(loss[0], 2000 + std::log(2.0f));
  EXPECT_FLOAT_EQ(dx[0], 0.5f);
  EXPECT_FLOAT_EQ(dx[1], -1);
}

TEST_P(OpTest, SvdfMatrixAndItsGradients) {
  for (int round = 0; round < 20; ++round) {
    const int64_t frames = Draw(1, 9), features = Draw(1, 9), units = Draw(1, 30),
                  rank = Draw(1, 3), filters = units * rank;
    const auto f = Uniform(features * filters, 1), t = Uniform(frames * filters, 2),
               dm = Uniform(frames * features * units, 3);
    std::vector<float> m(dm.size(), 7), df(f.size(), 7), dt(t.size(), 7);
    std::vector<double> want_m(m.size()), want_df(f.size()), want_dt(t.size());
    for (int64_t j = 0; j < frames; ++j) {
      for (int64_t i = 0; i < features; ++i) {
        for (int64_t k = 0; k < filters; ++k) {
          const int64_t at = (j * features + i) * units + k / rank;
          want_m[at] += double{f[i * filters + k]} * t[j * filters + k];
          want_df[i * filters + k] += double{dm[at]} * t[j * filters + k];
          want_dt[j * filters + k] += double{dm[at]} * f[i * filters + k];
        }
      }
    }
    Mirror on(*stream_);
    const ConstTensor feature = on.In(f, {features, filters}), time = on.In(t, {frames, filters});
    SvdfExpand(*stream_, rank, feature, time, on.Out(m, {frames * features, units}));
    SvdfContract(*stream_, rank, feature, time, on.In(dm, {frames * features, units}),
                 on.Out(df, {features, filters}), on.Out(dt, {frames, filters}));
    Finish(on);
    for (size_t i = 0; i < m.size(); ++i) ASSERT_NEAR(m[i], want_m[i], Tolerance(rank));
    for (size_t i = 0; i < df.size(); ++i) ASSERT_NEAR(df[i], want_df[i], Tolerance(frames));
    for (size_t i = 0; i < dt.size(); ++i) ASSERT_NEAR(dt[i], want_dt[i], Tolerance(features));
  }
}

TEST(DeviceTest, SaysWhatItIs) {
  const auto device = MakeCpuDevice(2);
  EXPECT_EQ(device->name(), "/cpu:0");
  EXPECT_EQ(device->description().substr(0, 11), "2 threads, ");
  EXPECT_TRUE(device->host_memory());
}

TEST(DeviceTest, BuffersAreAlignedZeroAndMovable) {
  const auto device = MakeCpuDevice(1);
  Buffer buffer(*device, 100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
  EXPECT_EQ(std::count(buffer.data<uint8_t>(), buffer.data<uint8_t>() + 100, 0), 100);
  float* const data = buffer.data();
  const Buffer moved = std::move(buffer);
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(moved.size_bytes(), 100u);
}

TEST(DeviceTest, EventsOfTheCpuAreDoneAtOnce) {
  const auto device = MakeCpuDevice(1);
  const auto stream = device->MakeStream();
  const auto event = device->MakeEvent();
  stream->Record(*event);
  stream->Wait(*event);
  EXPECT_TRUE(event->Done());
  EXPECT_TRUE(event->Synchronize().ok());
  EXPECT_TRUE(stream->Synchronize().ok());
}

// Exactly: a sample is one product and one sum, rounded alike everywhere.
TEST_P(OpTest, SoundsAreMovedMixedAndFramed) {
  for (int round = 0; round < 30; ++round) {
    const int64_t n = Draw(1, 5), samples = Draw(20, 200), window = Draw(1, 4) * Draw(1, 5);
    const int64_t stride = Draw(1, 20), frames = 1 + (samples - window) / stride;
    const bool follows = Draw(0, 1);
    std::vector<int16_t> clips(static_cast<size_t>(n * samples)), noise(1000);
    for (auto* some : {&clips, &noise}) {
      for (int16_t& sample : *some) sample = static_cast<int16_t>(Draw(-32768, 32767));
    }
    const int64_t bytes = sizeof(SoundRecord) + (follows ? (2 * samples + 15) / 16 * 16 : 0);
    std::vector<uint8_t> records(static_cast<size_t>(n * bytes));
    std::vector<float> want;
    for (int64_t s = 0; s < n; ++s) {
      SoundRecord record;
      if (Draw(0, 3) > 0) record.clip = follows ? SoundRecord::kFollows : s * samples;
      record.shift = static_cast<int32_t>(Draw(-samples - 5, samples + 5));
      record.noise = Draw(0, 1000 - samples);
      if (Draw(0, 2) > 0) record.scale = static_cast<float>(Draw(0, 100)) / 1e6f;
      uint8_t* const place = records.data() + s * bytes;
      std::memcpy(place, &record, sizeof(record));
      if (follows) std::memcpy(place + sizeof(record), &clips[s * samples], 2 * samples);
      std::vector<float> x(static_cast<size_t>(samples));
      for (int64_t i = 0; i < samples; ++i) {
        const int64_t from = i - record.shift;
        if (record.clip != SoundRecord::kSilence && from >= 0 && from < samples) {
          x[i] = static_cast<float>(clips[s * samples + from]) / 32768;
        }
        const float louder = record.scale * static_cast<float>(noise[record.noise + i]);
        x[i] = std::min(std::max(x[i] + louder, -1.0f), 1.0f);
      }
      for (int64_t f = 0; f < frames; ++f) {
        want.insert(want.end(), &x[f * stride], &x[f * stride] + window);
      }
    }
    std::vector<float> got(want.size());
    Mirror on(*stream_);
    SoundArgs sounds{samples, frames, window, stride, nullptr, nullptr, nullptr, bytes};
    sounds.clips = static_cast<const int16_t*>(on.Bytes(clips));
    sounds.noise = static_cast<const int16_t*>(on.Bytes(noise));
    sounds.records = static_cast<const std::byte*>(on.Bytes(records));
    FrameSounds(*stream_, sounds, on.Out(got, {n, frames, window}));
    Finish(on);
    ASSERT_EQ(got, want) << "round " << round;
  }
}

TEST_P(OpTest, LogarithmsOfMelChannels) {
  for (int round = 0; round < 20; ++round) {
    const int64_t rows = Draw(1, 50), bins = Draw(1, 40), channels = Draw(1, 12);
    const auto spectrum = Uniform(rows * 2 * bins, 1);
    std::vector<int32_t> first, begin = {0};
    std::vector<float> weights;
    for (int64_t c = 0; c < channels; ++c) {
      first.push_back(static_cast<int32_t>(Draw(0, bins - 1)));
      const int64_t count = Draw(1, bins - first.back());
      for (int64_t k = 0; k < count; ++k) weights.push_back(static_cast<float>(Draw(0, 100)) / 100);
      begin.push_back(static_cast<int32_t>(weights.size()));
    }
    constexpr float kFloor = 0.1f;
    std::vector<float> got(static_cast<size_t>(rows * channels));
    Mirror on(*stream_);
    const MelArgs mel{bins,
                      channels,
                      kFloor,
                      on.In(first, {channels}).data<int32_t>(),
                      on.In(begin, {channels + 1}).data<int32_t>(),
                      on.In(weights, {static_cast<int64_t>(weights.size())}).data()};
    LogMel(*stream_, mel, on.In(spectrum, {rows, 2 * bins}), on.Out(got, {rows, channels}));
    Finish(on);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (int32_t k = begin[c]; k < begin[c + 1]; ++k) {
          const float* re = &spectrum[r * 2 * bins + first[c] + k - begin[c]];
          sum += double{weights[k]} * std::hypot(double{re[0]}, double{re[bins]});
        }
        // A relative error of the sum is an error of its logarithm, which is rounded, too.
        const double want = std::log(std::max(sum, double{kFloor}));
        ASSERT_NEAR(got[r * channels + c], want, Tolerance(bins + 4)) << r << " " << c;
      }
    }
  }
}

}  // namespace
}  // namespace muster
