// What readers of a slice are sent where its parameter has a pull codec, beside the formulas.
#include "ps/pulled.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "kernels/optimizer_math.h"

namespace muster::ps {
namespace {

using testing::HasSubstr;
using Floats = std::vector<float>;

const char* const kDeltaCodecs[] = {"int8", "1bit", "topk"};

Floats Random(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Floats out(static_cast<size_t>(n));
  for (float& x : out) x = normal(rng);
  return out;
}

// What a reader that has `before` holds after `payload`.
Floats After(const Codec& codec, bool delta, const rpc::Payload& payload, Floats before) {
  const absl::Status status = Unpack(&codec, delta, payload, before);
  EXPECT_TRUE(status.ok()) << status;
  return before;
}

// The reader's side of `version`, which is to be what `pulled` has at `parity`.
void ExpectVersion(PulledValues& pulled, const Codec& codec, int parity, int64_t version,
                   const Floats& expected, Floats& reader) {
  ASSERT_TRUE(pulled.has_delta(parity, version));
  reader = After(codec, true, pulled.Delta(parity, /*in_place=*/true), reader);
  ASSERT_EQ(reader, expected) << "version " << version;
  const rpc::Payload whole = pulled.Whole(parity, version, {}, /*in_place=*/false);
  ASSERT_EQ(After(codec, false, whole, Floats(expected.size())), expected)
      << "who holds nothing gets the same";
}

TEST(PulledTest, DeltasAreThoseOfTheFormulaAndBringEveryReaderToTheShadow) {
  for (const char* name : kDeltaCodecs) {
    for (const int64_t n : {int64_t{1}, int64_t{100}, kQuantum, 3 * kQuantum + 5}) {
      SCOPED_TRACE(testing::Message() << name << ", " << n << " elements");
      const auto codec = *MakeCodec(name);
      PulledValues pulled(codec, n, nullptr);
      Floats values = Random(n, 1), shadow = values, reader = values;
      std::ranges::copy(values, pulled.shadow(0).begin());
      for (int64_t version = 1; version < 6; ++version) {
        const Floats step = Random(n, static_cast<uint32_t>(version) + 1);
        Floats difference(values.size()), left(values.size(), 0.0f), decoded(values.size());
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] += 0.1f * step[i];
          difference[i] = values[i] - shadow[i];
        }
        std::vector<std::byte> encoded(codec->EncodedSize(n));
        codec->Encode(difference, left, encoded);
        for (int64_t begin = 0; begin < n; begin += kQuantum) {
          const auto size = static_cast<size_t>(std::min(kQuantum, n - begin));
          codec->Decode(encoded, n, begin,
                        std::span(decoded).subspan(static_cast<size_t>(begin), size));
        }
        for (size_t i = 0; i < values.size(); ++i) shadow[i] += decoded[i];
        const auto parity = static_cast<int>(version % 2);
        pulled.Advance(parity, version, values);
        ASSERT_NO_FATAL_FAILURE(ExpectVersion(pulled, *codec, parity, version, shadow, reader));
      }
      EXPECT_FALSE(pulled.has_delta(0, 2)) << "version 4 took its place";
    }
  }
}

TEST(PulledTest, WhatADeltaLeavesOutComesLater) {
  for (const char* name : {"int8", "topk"}) {
    constexpr int64_t kSize = 1000;
    const auto codec = *MakeCodec(name, std::string(name) == "topk" ? 0.1 : 0);
    PulledValues pulled(codec, kSize, nullptr);
    const Floats from = Random(kSize, 1), to = Random(kSize, 2);
    std::ranges::copy(from, pulled.shadow(0).begin());
    pulled.Advance(1, 1, to);
    EXPECT_FALSE(std::ranges::equal(pulled.shadow(1), to)) << name;
    for (int version = 2; version < 30; ++version) pulled.Advance(version % 2, version, to);
    EXPECT_TRUE(std::ranges::equal(pulled.shadow(1), to)) << name;
  }
}

// As workers read it while the next version is made (invariant 2 of ps/slice.h).
TEST(PulledTest, WhatIsLentStaysUntilItIsDropped) {
  constexpr int64_t kSize = 300;
  const auto codec = *MakeCodec("int8");
  PulledValues pulled(codec, kSize, nullptr);
  const Floats first = Random(kSize, 1);
  std::ranges::copy(first, pulled.shadow(0).begin());
  pulled.Advance(1, 1, Random(kSize, 2));
  const rpc::Payload delta = pulled.Delta(1, false), whole = pulled.Whole(1, 1, {}, false);
  const std::string delta_then = delta.Flatten(), whole_then = whole.Flatten();
  for (int version = 2; version < 6; ++version) {
    pulled.Advance(version % 2, version, Random(kSize, static_cast<uint32_t>(version)));
  }
  EXPECT_EQ(delta.Flatten(), delta_then);
  EXPECT_EQ(whole.Flatten(), whole_then);
}

TEST(PulledTest, ACodecThatKeepsNothingBackSendsEachVersionWhole) {
  for (const char* name : {"fp16", "bf16"}) {
    const auto codec = *MakeCodec(name);
    PulledValues pulled(codec, 100, nullptr);
    EXPECT_FALSE(pulled.deltas());
    const Floats values = Random(100, 3);
    const Floats read = After(*codec, false, pulled.Whole(0, 7, values, true), Floats(100));
    for (size_t i = 0; i < read.size(); ++i) EXPECT_NEAR(read[i], values[i], 0.02) << name;
    EXPECT_EQ(read, After(*codec, false, pulled.Whole(0, 7, {}, true), Floats(100)))
        << "encoded once";
  }
}

TEST(PulledTest, ValuesThatAreNotFiniteAreRefusedByTheReader) {
  const auto codec = *MakeCodec("topk", 1);
  PulledValues pulled(codec, 2, nullptr);
  std::ranges::copy(Floats{1, 2}, pulled.shadow(0).begin());
  pulled.Advance(1, 1, Floats{std::numeric_limits<float>::infinity(), 2});
  Floats reader = {1, 2};
  const absl::Status status = Unpack(codec.get(), true, pulled.Delta(1, true), reader);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

}  // namespace
}  // namespace muster::ps
