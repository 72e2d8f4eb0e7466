// The codecs through a device's table of ops give the CPU's bytes, decoded values and residual on
// every device, at sizes that end amid vectors, blocks and quanta; and a device says of which codec
// it has no code.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "kernels/codec.h"
#include "kernels/device_ops.h"
#include "kernels/mirror.h"
#include "tests/harness/device_test.h"
#include "tests/kernels/reference.h"

namespace muster {
namespace {

// Codecs that only the host has code for.
const std::set<std::string> kOfTheHost = {};

struct Step {
  std::vector<float> gradient, residual, decoded;
  std::vector<std::byte> encoding;
};

// Like gradients; the residual, too, is what a step before could have left.
Step RandomStep(const Codec& codec, int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.01f);
  Step step;
  for (int64_t i = 0; i < n; ++i) {
    step.gradient.push_back(normal(random));
    if (codec.has_residual()) step.residual.push_back(normal(random) / 8);
  }
  step.decoded.assign(static_cast<size_t>(n), -7.0f);
  step.encoding.assign(codec.EncodedSize(n), std::byte{0xa5});
  return step;
}

// Encodes twice, so that the second encoding needs the residual and the scratch memory that the
// first one left, and decodes the second one.
absl::Status EncodeTwice(DeviceCodec& codec, Stream& stream, Step& step) {
  const auto n = static_cast<int64_t>(step.gradient.size());
  Mirror on(stream);
  const float* const gradient = on.In(step.gradient, {n}).data();
  float* const residual = step.residual.empty() ? nullptr : on.Out(step.residual, {n}).data();
  auto* const encoding =
      on.Out(step.encoding, {std::ssize(step.encoding)}).template data<std::byte>();
  float* const decoded = on.Out(step.decoded, {n}).data();
  codec.Encode(stream, n, gradient, residual, encoding);
  codec.Encode(stream, n, gradient, residual, encoding);
  codec.Decode(stream, n, encoding, decoded);
  return on.Finish();
}

using CodecOpsTest = testing::DeviceTest;

INSTANTIATE_TEST_SUITE_P(Devices, CodecOpsTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

TEST_P(CodecOpsTest, GiveTheCpusBytesValuesAndResidual) {
  const auto cpu = MakeCpuDevice(1);
  int tried = 0;
  for (const std::string& name : CodecNames()) {
    if (name == "none") continue;
    const auto codec = *MakeCodec(name);
    const auto on_cpu = cpu->ops().MakeCodec(*codec), here = device_->ops().MakeCodec(*codec);
    if (!device_->host_memory() && kOfTheHost.contains(name)) {
      EXPECT_EQ(here, nullptr) << name;
      continue;
    }
    ASSERT_NE(here, nullptr) << name << " has no code for " << device_->name();
    for (const int64_t n : {1, 3, 4, 129, 513, 1003, 16'384, 16'385, 70'001}) {
      SCOPED_TRACE(name + " of " + std::to_string(n));
      Step want = RandomStep(*codec, n, static_cast<uint32_t>(n)), got = want;
      const Step before = want;
      ASSERT_TRUE(EncodeTwice(*on_cpu, *cpu->MakeStream(), want).ok());
      const absl::Status run = EncodeTwice(*here, *stream_, got);
      ASSERT_TRUE(run.ok()) << run;
      EXPECT_NE(want.encoding, before.encoding);
      ASSERT_TRUE(got.encoding == want.encoding);
      ASSERT_TRUE(testing::Bits(got.decoded) == testing::Bits(want.decoded));
      ASSERT_TRUE(testing::Bits(got.residual) == testing::Bits(want.residual));
      ASSERT_EQ(testing::Bits(got.residual) != testing::Bits(before.residual),
                codec->has_residual());
      ++tried;
    }
  }
  EXPECT_GE(tried, 5 * 9);
}

TEST_P(CodecOpsTest, AnEmptyArrayHasAnEncodingOfNoBytes) {
  for (const std::string& name : CodecNames()) {
    if (name == "none") continue;
    const auto codec = *MakeCodec(name);
    ASSERT_EQ(codec->EncodedSize(0), 0u);
    const auto here = device_->ops().MakeCodec(*codec);
    if (here == nullptr) continue;
    const Buffer memory(*device_, 64);
    float* const floats = memory.data<float>();
    here->Encode(*stream_, 0, floats, codec->has_residual() ? floats : nullptr,
                 memory.data<std::byte>());
    here->Decode(*stream_, 0, memory.data<std::byte>(), floats);
    EXPECT_TRUE(stream_->Synchronize().ok());
  }
}

// A codec that was added for the host alone: one file, one line in the table, one test.
class Copying final : public Codec {
 public:
  const char* name() const override { return "copying"; }
  bool has_residual() const override { return false; }
  size_t EncodedSize(int64_t n) const override { return static_cast<size_t>(n) * sizeof(float); }

 private:
  void EncodeArray(std::span<const float> gradient, float*, std::byte* out) const override {
    std::ranges::copy(std::as_bytes(gradient), out);
  }
  absl::Status CheckContent(const std::byte*, int64_t) const override { return absl::OkStatus(); }
  void DecodeRange(const std::byte* encoded, int64_t, int64_t begin,
                   std::span<float> out) const override {
    const std::byte* const from = encoded + begin * int64_t{sizeof(float)};
    std::copy(from, from + out.size_bytes(), std::as_writable_bytes(out).begin());
  }
};

TEST_P(CodecOpsTest, ACodecThatADeviceHasNoCodeForIsTheHosts) {
  const Copying copying;
  const auto here = device_->ops().MakeCodec(copying);
  EXPECT_EQ(here != nullptr, device_->host_memory());
  if (here == nullptr) return;
  Step step = RandomStep(copying, 1003, 1);
  ASSERT_TRUE(EncodeTwice(*here, *stream_, step).ok());
  EXPECT_EQ(step.decoded, step.gradient);
}

}  // namespace
}  // namespace muster
