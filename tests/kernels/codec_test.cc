// Each codec against a scalar model of its formula, bit for bit, on every instruction set of this
// machine; that nothing is lost between what is sent and what is kept; and what hostile bytes do.
#include "kernels/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/optimizer_math.h"

namespace muster {
namespace {

using testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kSizes[] = {0,   1,   2,   7,   8,   15,   16,    17,    100,  127,
                              128, 129, 511, 512, 513, 1000, 16384, 16385, 40001};

using Floats = std::vector<float>;
using Bytes = std::vector<std::byte>;

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// A codec's formula, element by element; `x` is the input.
using Model = std::function<Floats(const Floats& x)>;

// The nearest of the numbers that `bits_kept` mantissa bits and exponents from `least` on hold.
float RoundTo(float x, int bits_kept, int least, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  int exponent;
  std::frexp(double{x}, &exponent);  // |x| = [0.5, 1) * 2^exponent
  const double unit = std::ldexp(1.0, std::max(exponent, least + 1) - 1 - bits_kept);
  const double rounded = std::nearbyint(double{x} / unit) * unit;
  return static_cast<float>(std::abs(rounded) > largest ? std::copysign(kInf, rounded) : rounded);
}

Floats Fp16Model(const Floats& x) {
  Floats out;
  for (const float v : x) out.push_back(RoundTo(v, 10, -14, 65504));
  return out;
}

Floats Bf16Model(const Floats& x) {
  Floats out;
  for (const float v : x) out.push_back(RoundTo(v, 7, -126, double{FromBits(0x7f7f0000)}));
  return out;
}

Floats Int8Model(const Floats& x) {
  Floats out(x.size());
  for (size_t begin = 0; begin < x.size(); begin += 128) {
    const size_t end = std::min(x.size(), begin + 128);
    double largest = 0;
    for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(double{x[i]}));
    int exponent = -200;
    if (largest > 0) exponent = std::ilogb(largest) - 6;
    const double scale = std::ldexp(1.0, std::max(exponent, -126));
    for (size_t i = begin; i < end; ++i) {
      const double q = std::clamp(std::nearbyint(double{x[i]} / scale), -127.0, 127.0);
      out[i] = static_cast<float>(q * scale + 0.0);  // + 0.0: integers have no -0
    }
  }
  return out;
}

float OneBitScale(const Floats& x, size_t begin, size_t end) {
  float sums[16] = {};
  for (size_t i = begin; i < end; ++i) sums[(i - begin) % 16] += std::abs(x[i]);
  for (size_t width = 8; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return RoundTo(sums[0] / static_cast<float>(end - begin), 7, -126, 1e39);
}

Floats OneBitModel(const Floats& x) {
  Floats out(x.size());
  for (size_t begin = 0; begin < x.size(); begin += 512) {
    const size_t end = std::min(x.size(), begin + 512);
    const float scale = OneBitScale(x, begin, end);
    for (size_t i = begin; i < end; ++i) out[i] = std::copysign(scale, x[i]);
  }
  return out;
}

Floats TopKModel(const Floats& x) {
  Floats out(x.size(), 0.0f);
  for (size_t begin = 0; begin < x.size(); begin += kQuantum) {
    const size_t size = std::min(x.size() - begin, size_t{kQuantum});
    std::vector<size_t> order(size);
    std::iota(order.begin(), order.end(), begin);
    std::ranges::stable_sort(order,
                             [&](size_t a, size_t b) { return std::abs(x[a]) > std::abs(x[b]); });
    order.resize(static_cast<size_t>(std::ceil(0.01 * static_cast<double>(size))));
    for (const size_t i : order) out[i] = x[i];
  }
  return out;
}

struct Case {
  const char* name;
  Model model;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::shared_ptr<const Codec> Make(const char* name) {
  auto made = MakeCodec(name);
  EXPECT_TRUE(made.ok()) << made.status();
  return *made;
}

// Runs `body` on every instruction set that this machine has and the kernels were compiled for.
void OnEveryTarget(const std::function<void(const char* target)>& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

constexpr uint32_t kSeed = 20240607;

// Inputs of every kind that is finite: like gradients, of all magnitudes down to subnormal ones,
// with many zeros and ties, all zero, near the largest.
std::vector<Floats> Inputs(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 0.01f);
  const auto fill = [n](auto&& draw) {
    Floats out(static_cast<size_t>(n));
    for (float& x : out) x = draw();
    return out;
  };
  return {
      fill([&] { return normal(rng); }),
      // Any bits but the largest exponents, whose sum over a block overflows.
      fill([&] { return FromBits(rng() & 0xf9ffffff); }),
      fill([&] { return FromBits(rng() & 0x807fffff); }),
      fill([&] { return static_cast<float>(static_cast<int>(rng() % 7) - 3) / 8; }),
      fill([&] { return rng() % 5 == 0 ? std::exp(normal(rng) * 1000) : -0.0f; }),
      fill([&] { return 0.0f; }),
      fill([&] { return rng() % 2 == 0 ? 5e35f : -4.99e35f; }),
  };
}

void ExpectSameBits(const Floats& got, const Floats& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << ": element " << i << " is " << got[i] << ", not " << expected[i];
  }
}

struct Coded {
  Bytes bytes;
  Floats residual, decoded;
};

// Encodes gradient + residual, and decodes.
Coded Code(const Codec& codec, const Floats& gradient, Floats residual) {
  const auto n = static_cast<int64_t>(gradient.size());
  Coded out;
  if (codec.has_residual()) out.residual = std::move(residual);
  out.bytes.resize(codec.EncodedSize(n), std::byte{0xa5});
  codec.Encode(gradient, out.residual, out.bytes);
  out.decoded.resize(gradient.size(), kNan);
  codec.Decode(out.bytes, n, 0, out.decoded);
  return out;
}

const Case kAll[] = {{"fp16", Fp16Model},
                     {"bf16", Bf16Model},
                     {"int8", Int8Model},
                     {"1bit", OneBitModel},
                     {"topk", TopKModel}};
std::string NameOf(const testing::TestParamInfo<Case>& info) { return info.param.name; }

class EveryCodec : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Codecs, EveryCodec, testing::ValuesIn(kAll), NameOf);

class EveryCodecWithResidual : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Codecs, EveryCodecWithResidual,
                         testing::ValuesIn(std::begin(kAll) + 2, std::end(kAll)), NameOf);

TEST(CodecTable, EveryCodecHasItsModelHere) {
  std::vector<std::string> names = {"none"};
  for (const Case& c : kAll) names.emplace_back(c.name);
  EXPECT_EQ(CodecNames(), names);
}

TEST_P(EveryCodec, DecodesToItsFormulaAndKeepsTheRestOnEveryInstructionSet) {
  const auto codec = Make(GetParam().name);
  EXPECT_STREQ(codec->name(), GetParam().name);
  for (const int64_t n : kSizes) {
    const std::vector<Floats> inputs = Inputs(n, kSeed + static_cast<uint32_t>(n));
    for (size_t kind = 0; kind < inputs.size(); ++kind) {
      // Half of each element was left by the step before.
      Floats gradient = inputs[kind], residual(gradient.size(), 0.0f), input = gradient;
      for (size_t i = 0; codec->has_residual() && i < input.size(); ++i) {
        residual[i] = gradient[i] * 0.5f;
        gradient[i] -= residual[i];
        input[i] = gradient[i] + residual[i];
      }
      const Floats expected = GetParam().model(input);
      Floats rest(codec->has_residual() ? input.size() : 0);
      for (size_t i = 0; i < rest.size(); ++i) rest[i] = input[i] - expected[i];
      Bytes first;
      OnEveryTarget([&](const char* target) {
        const Coded coded = Code(*codec, gradient, residual);
        const std::string what =
            std::string(target) + ", input " + std::to_string(kind) + " of " + std::to_string(n);
        if (first.empty()) first = coded.bytes;
        EXPECT_EQ(coded.bytes, first) << what;
        EXPECT_TRUE(codec->Check(coded.bytes, n).ok()) << what;
        ExpectSameBits(coded.decoded, expected, what);
        // The model's -0 where nothing was left is not asked for.
        ASSERT_EQ(coded.residual, rest) << what;
      });
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(EveryCodecWithResidual, SentPlusResidualIsTheInputExactly) {
  const auto codec = Make(GetParam().name);
  ASSERT_TRUE(codec->has_residual());
  const bool rounds = GetParam().name == std::string("1bit");
  for (const int64_t n : kSizes) {
    for (const Floats& input : Inputs(n, kSeed + 7 * static_cast<uint32_t>(n))) {
      const Coded coded = Code(*codec, input, Floats(input.size(), 0.0f));
      for (size_t i = 0; i < input.size(); ++i) {
        // The sum of two float32 in double is exact unless they are very far apart, and then it
        // differs from the input.
        const double sum = double{coded.decoded[i]} + double{coded.residual[i]};
        const double slack = rounds && std::abs(input[i]) < std::abs(coded.decoded[i]) / 2
                                 ? std::ldexp(std::abs(double{coded.decoded[i]}), -24)
                                 : 0;
        ASSERT_LE(std::abs(sum - double{input[i]}), slack) << "element " << i << " of " << n;
      }
    }
  }
}

TEST(OneBit, SentPlusResidualIsTheInputExactlyOnAGridOfTheScalesUlp) {
  const auto codec = Make("1bit");
  std::mt19937 rng(kSeed);
  Floats input(5000);
  // Multiples of 2^-22 up to 4: scales are about 2, whose ulp is that.
  for (float& x : input) x = std::ldexp(static_cast<float>(rng() % (1 << 25)) - (1 << 24), -22);
  const Coded coded = Code(*codec, input, Floats(input.size(), 0.0f));
  for (size_t i = 0; i < input.size(); ++i) {
    ASSERT_EQ(double{coded.decoded[i]} + double{coded.residual[i]}, double{input[i]});
  }
}

TEST_P(EveryCodecWithResidual, OverManyStepsWhatIsSentAndKeptIsTheSumOfTheGradients) {
  const auto codec = Make(GetParam().name);
  ASSERT_TRUE(codec->has_residual());
  std::mt19937 rng(kSeed);
  constexpr int kSteps = 50;
  Floats residual(1000, 0.0f);
  std::vector<double> sum(1000), sent(1000);
  for (int step = 0; step < kSteps; ++step) {
    Floats gradient(1000);
    // Integers below 2^10: all sums, scales and residuals of 50 steps fit into 24 bits.
    for (float& g : gradient) g = static_cast<float>(static_cast<int>(rng() % 2048) - 1024);
    const Coded coded = Code(*codec, gradient, residual);
    residual = coded.residual;
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += gradient[i];
      sent[i] += coded.decoded[i];
    }
  }
  for (size_t i = 0; i < sum.size(); ++i) {
    // 1bit's scales are no integers, and its sums are rounded to float32.
    ASSERT_NEAR(sent[i] + residual[i], sum[i], codec->name() == std::string("1bit") ? 0.05 : 0);
  }
}

TEST_P(EveryCodec, CuttingAtQuantaChangesNothing) {
  const auto codec = Make(GetParam().name);
  const int64_t n = 3 * kQuantum + 1234;
  const Floats input = Inputs(n, kSeed)[0];
  const Coded whole = Code(*codec, input, Floats(input.size(), 0.0f));
  for (const int64_t cut : {kQuantum, 2 * kQuantum, 3 * kQuantum}) {
    const Floats front(input.begin(), input.begin() + cut), back(input.begin() + cut, input.end());
    Coded parts = Code(*codec, front, Floats(front.size(), 0.0f));
    const Coded rest = Code(*codec, back, Floats(back.size(), 0.0f));
    parts.decoded.insert(parts.decoded.end(), rest.decoded.begin(), rest.decoded.end());
    parts.residual.insert(parts.residual.end(), rest.residual.begin(), rest.residual.end());
    ExpectSameBits(parts.decoded, whole.decoded, "cut");
    ExpectSameBits(parts.residual, whole.residual, "cut");
    Floats range(static_cast<size_t>(n - cut));
    codec->Decode(whole.bytes, n, cut, range);
    ExpectSameBits(range, rest.decoded, "decoded from there");
    Floats one_quantum(kQuantum);
    codec->Decode(whole.bytes, n, cut - kQuantum, one_quantum);
    ExpectSameBits(one_quantum,
                   Floats(whole.decoded.begin() + cut - kQuantum, whole.decoded.begin() + cut),
                   "one quantum");
  }
}

TEST_P(EveryCodec, AnyAddressOfTheEncodingWillDo) {
  const auto codec = Make(GetParam().name);
  const int64_t n = 1300;
  const Floats input = Inputs(n, kSeed)[0];
  const Coded aligned = Code(*codec, input, Floats(input.size(), 0.0f));
  for (size_t shift = 1; shift < 4; ++shift) {
    Bytes memory(aligned.bytes.size() + 8, std::byte{0x5a});
    const std::span<std::byte> bytes = std::span(memory).subspan(shift, aligned.bytes.size());
    Floats residual(codec->has_residual() ? input.size() : 0, 0.0f), decoded(input.size());
    codec->Encode(input, residual, bytes);
    EXPECT_TRUE(std::ranges::equal(bytes, aligned.bytes));
    EXPECT_EQ(memory[shift - 1], std::byte{0x5a});
    EXPECT_EQ(memory[shift + aligned.bytes.size()], std::byte{0x5a});
    codec->Decode(bytes, n, 0, decoded);
    EXPECT_EQ(decoded, aligned.decoded);
  }
}

TEST_P(EveryCodec, AValueThatIsNotFiniteIsRefusedOrArrivesAsOne) {
  const auto codec = Make(GetParam().name);
  for (const int64_t n : {1, 16, 129, 600, 20000}) {
    for (const int64_t bad : {int64_t{0}, n / 2, n - 1}) {
      for (const float value : {kInf, -kInf, kNan, -kNan}) {
        Floats input = Inputs(n, kSeed)[0];
        input[static_cast<size_t>(bad)] = value;
        OnEveryTarget([&](const char* target) {
          const Coded coded = Code(*codec, input, Floats(input.size(), 0.0f));
          const bool refused = !codec->Check(coded.bytes, n).ok();
          Floats sum(input.size());
          EXPECT_TRUE(refused || !CopyInto(sum.data(), coded.decoded.data(), n))
              << target << ": " << value << " at " << bad << " of " << n;
        });
      }
    }
  }
}

TEST_P(EveryCodec, AWrongSizeIsRefused) {
  const auto codec = Make(GetParam().name);
  for (const int64_t n : kSizes) {
    Bytes bytes(codec->EncodedSize(n) + 1);
    EXPECT_FALSE(codec->Check(bytes, n).ok()) << n;
    if (n == 0) continue;
    bytes.resize(codec->EncodedSize(n) - 1);
    const absl::Status status = codec->Check(bytes, n);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << n;
    EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().name));
  }
}

TEST_P(EveryCodec, AnyBytesAreCheckedAndDecodedWithinBounds) {
  const auto codec = Make(GetParam().name);
  std::mt19937 rng(kSeed);
  for (int round = 0; round < 300; ++round) {
    const int64_t n = kSizes[rng() % std::size(kSizes)];
    Bytes bytes(codec->EncodedSize(n));
    for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
    codec->Check(bytes, n).IgnoreError();
    Floats out(static_cast<size_t>(n) + 2, 7.0f);
    codec->Decode(bytes, n, 0, std::span(out).subspan(1, static_cast<size_t>(n)));
    EXPECT_EQ(out.front(), 7.0f) << "seed " << kSeed << ", round " << round;
    EXPECT_EQ(out.back(), 7.0f) << "seed " << kSeed << ", round " << round;
  }
}

TEST(Fp16, EveryNumberOfTheFormatStaysAsItIs) {
  const auto codec = Make("fp16");
  Bytes all(2 << 16);
  for (size_t i = 0; i < 1 << 16; ++i) {
    const auto half = static_cast<uint16_t>(i);
    std::memcpy(all.data() + 2 * i, &half, 2);
  }
  Floats decoded(1 << 16);
  codec->Decode(all, 1 << 16, 0, decoded);
  EXPECT_EQ(decoded[0x3c00], 1.0f);
  EXPECT_EQ(decoded[0x0001], std::ldexp(1.0f, -24));
  EXPECT_EQ(decoded[0xfbff], -65504.0f);
  EXPECT_EQ(decoded[0x7c00], kInf);
  Bytes again(all.size());
  codec->Encode(decoded, {}, again);
  for (size_t i = 0; i < 1 << 16; ++i) {
    if (std::isnan(decoded[i])) continue;
    ASSERT_TRUE(std::equal(again.begin() + 2 * static_cast<std::ptrdiff_t>(i),
                           again.begin() + 2 * static_cast<std::ptrdiff_t>(i) + 2,
                           all.begin() + 2 * static_cast<std::ptrdiff_t>(i)))
        << i;
  }
}

TEST(Fp16, BeyondItsRangeIsInfinite) {
  const Coded coded = Code(*Make("fp16"), {65519.0f, 65520.0f, -1e30f, 1e-9f}, {});
  EXPECT_EQ(coded.decoded, (Floats{65504, kInf, -kInf, 0}));
}

TEST(TopK, HostilePlacesAreRefused) {
  const auto codec = Make("topk");
  const int64_t n = 300;  // 3 places, 3 values
  const Coded good = Code(*codec, Inputs(n, kSeed)[0], Floats(n, 0.0f));
  const auto with = [&](std::vector<uint16_t> places) {
    Bytes bytes = good.bytes;
    std::memcpy(bytes.data(), places.data(), 6);
    Floats out(n);
    codec->Decode(bytes, n, 0, out);
    return codec->Check(bytes, n);
  };
  EXPECT_TRUE(with({0, 1, 299}).ok());
  EXPECT_FALSE(with({0, 1, 300}).ok()) << "beyond the end";
  EXPECT_FALSE(with({0, 1, 65535}).ok()) << "far beyond the end";
  EXPECT_FALSE(with({1, 0, 2}).ok()) << "not ascending";
  EXPECT_FALSE(with({5, 5, 6}).ok()) << "twice the same";
}

TEST(TopK, TheFractionIsCheckedAndCounts) {
  EXPECT_EQ((*MakeCodec("topk", 0.5))->EncodedSize(10), 5 * 6u);
  EXPECT_EQ((*MakeCodec("topk", 1))->EncodedSize(10), 10 * 6u);
  EXPECT_EQ((*MakeCodec("topk", 1e-9))->EncodedSize(10), 6u);
  for (const double fraction : {-0.1, 1.01, double{kNan}}) {
    EXPECT_FALSE(MakeCodec("topk", fraction).ok()) << fraction;
  }
  EXPECT_THAT(std::string(MakeCodec("int8", 0.5).status().message()), HasSubstr("no fraction"));
}

TEST(Int8, HostileScalesAreRefused) {
  const auto codec = Make("int8");
  for (const int exponent : {0, 249, 255}) {
    Coded coded = Code(*codec, Floats(200, 1.0f), Floats(200, 0.0f));
    coded.bytes[201] = static_cast<std::byte>(exponent);
    EXPECT_TRUE(absl::IsInvalidArgument(codec->Check(coded.bytes, 200))) << exponent;
  }
}

TEST(OneBit, HostileScalesAreRefused) {
  const auto codec = Make("1bit");
  for (const uint16_t scale : {0x7f80, 0x7fc0, 0xff80, 0xbf80, 0xffff}) {
    Coded coded = Code(*codec, Floats(16, 1.0f), Floats(16, 0.0f));
    std::memcpy(coded.bytes.data() + 2, &scale, 2);
    EXPECT_TRUE(absl::IsInvalidArgument(codec->Check(coded.bytes, 16))) << scale;
  }
}

TEST(CodecTable, AnUnknownNameAnswersWithTheValidOnes) {
  const absl::Status status = MakeCodec("int9").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(std::string(status.message()),
            "unknown codec 'int9'; write one of none, fp16, bf16, int8, 1bit, topk");
  EXPECT_EQ(*MakeCodec("none"), nullptr);
}

}  // namespace
}  // namespace muster
