// The codecs' kernels against the CPU's codecs, bit for bit: what a GPU encodes is what the CPU
// would, with the same residual, and both decode the same.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/cuda/codec_half_kernels.h"
#include "kernels/cuda/codec_int8_kernels.h"
#include "kernels/cuda/codec_one_bit_kernels.h"
#include "kernels/cuda/codec_topk_kernels.h"
#include "tests/kernels/any_order.h"

namespace muster::gpu {
namespace {

using muster::testing::RunInAnyOrder;
using Floats = std::vector<float>;
using Bytes = std::vector<std::byte>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// Around the blocks of int8 (128) and 1bit (512), topk's chunks (16, 512) and the quantum.
constexpr int64_t kSizes[] = {1,   2,   3,   4,   7,   8,    9,     15,    16,    17,    127,
                              128, 129, 511, 512, 513, 1000, 16383, 16384, 16385, 32768, 40001};

// A codec's kernels. Scratch memory is filled with what a GPU's memory may hold.
struct GpuCodec {
  const char* name;
  double fraction;
  std::function<void(const RunInAnyOrder&, const Codec&, const Floats& gradient, Floats& residual,
                     Bytes& out)>
      encode;
  std::function<void(const RunInAnyOrder&, const Codec&, const Bytes&, Floats& out)> decode;
};

template <class Kernels>
GpuCodec Of(const char* name, double fraction = 0) {
  return {name, fraction,
          [](const RunInAnyOrder& run, const Codec& codec, const Floats& g, Floats& r, Bytes& out) {
            const auto n = static_cast<int64_t>(g.size());
            Bytes scratch(static_cast<size_t>(Kernels::ScratchBytes(n)), std::byte{0xee});
            Kernels::Encode(run, codec, n, g.data(), r.data(), out.data(), scratch.data());
          },
          [](const RunInAnyOrder& run, const Codec& codec, const Bytes& bytes, Floats& out) {
            Kernels::Decode(run, codec, static_cast<int64_t>(out.size()), bytes.data(), out.data());
          }};
}

const GpuCodec kCodecs[] = {Of<HalfKernels<Fp16Format>>("fp16"),
                            Of<HalfKernels<Bf16Format>>("bf16"),
                            Of<Int8Kernels>("int8"),
                            Of<OneBitKernels>("1bit"),
                            Of<TopkKernels>("topk"),
                            Of<TopkKernels>("topk", 1e-9),
                            Of<TopkKernels>("topk", 0.3),
                            Of<TopkKernels>("topk", 1)};

std::shared_ptr<const Codec> CpuCodec(const GpuCodec& gpu) {
  auto made = MakeCodec(gpu.name, gpu.fraction);
  EXPECT_TRUE(made.ok()) << made.status();
  return *made;
}

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// Of every kind that is finite: like gradients, of all magnitudes, subnormal, with many ties, with
// many negative zeros, all zero, near the largest.
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
      fill([&] { return FromBits(rng() & 0xf9ffffff); }),
      fill([&] { return FromBits(rng() & 0x807fffff); }),
      fill([&] { return static_cast<float>(static_cast<int>(rng() % 7) - 3) / 8; }),
      fill([&] { return rng() % 5 == 0 ? std::exp(normal(rng) * 1000) : -0.0f; }),
      fill([&] { return 0.0f; }),
      fill([&] { return -0.0f; }),
      fill([&] { return rng() % 2 == 0 ? 5e35f : -4.99e35f; }),
      fill([&] { return rng() % 9 == 0 ? -3e38f : 1.5f; }),
  };
}

void ExpectSameBits(const Floats& got, const Floats& expected, const char* what) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << " " << i << " is " << got[i] << ", not " << expected[i];
  }
}

struct Coded {
  Bytes bytes;
  Floats residual;
};

Coded EncodeByCpu(const Codec& codec, const Floats& gradient, const Floats& residual) {
  Coded coded = {Bytes(codec.EncodedSize(static_cast<int64_t>(gradient.size()))),
                 codec.has_residual() ? residual : Floats()};
  codec.Encode(gradient, coded.residual, coded.bytes);
  return coded;
}

// With a byte more than there are, which must stay as it is.
Coded EncodeByGpu(const GpuCodec& gpu, const Codec& codec, const Floats& gradient,
                  const Floats& residual, uint32_t seed) {
  Coded coded = {
      Bytes(codec.EncodedSize(static_cast<int64_t>(gradient.size())) + 1, std::byte{0xa5}),
      codec.has_residual() ? residual : Floats()};
  gpu.encode(RunInAnyOrder(seed), codec, gradient, coded.residual, coded.bytes);
  EXPECT_EQ(coded.bytes.back(), std::byte{0xa5}) << "wrote beyond the encoding";
  coded.bytes.pop_back();
  return coded;
}

TEST(CodecKernelTest, EncodesAndDecodesToTheCpusBits) {
  for (const GpuCodec& gpu : kCodecs) {
    const auto codec = CpuCodec(gpu);
    for (const int64_t n : kSizes) {
      const auto seed = static_cast<uint32_t>(1000 + n);
      const std::vector<Floats> inputs = Inputs(n, seed);
      for (size_t kind = 0; kind < inputs.size(); ++kind) {
        SCOPED_TRACE(std::string(gpu.name) + " " + std::to_string(gpu.fraction) + ", input " +
                     std::to_string(kind) + " of " + std::to_string(n) + ", seed " +
                     std::to_string(seed));
        // A part of each element was left by the step before.
        Floats gradient = inputs[kind], residual(gradient.size(), 0.0f);
        for (size_t i = 0; i < gradient.size() && n % 2 == 0; ++i) {
          residual[i] = gradient[i] * 0.375f;
          gradient[i] -= residual[i];
        }
        const Coded expected = EncodeByCpu(*codec, gradient, residual);
        const Coded got = EncodeByGpu(gpu, *codec, gradient, residual, seed);
        for (size_t i = 0; i < got.bytes.size(); ++i) {
          ASSERT_EQ(got.bytes[i], expected.bytes[i]) << "byte " << i;
        }
        ExpectSameBits(got.residual, expected.residual, "residual");
        Floats cpu(gradient.size()), decoded(gradient.size() + 1, kNan);
        codec->Decode(expected.bytes, n, 0, cpu);
        decoded.resize(gradient.size());
        gpu.decode(RunInAnyOrder(seed), *codec, expected.bytes, decoded);
        ExpectSameBits(decoded, cpu, "decoded");
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(CodecKernelTest, WhatIsNotFiniteIsEncodedAsTheCpuDoes) {
  for (const GpuCodec& gpu : kCodecs) {
    const auto codec = CpuCodec(gpu);
    for (const int64_t n : {1, 16, 129, 600, 20000}) {
      for (const int64_t bad : {int64_t{0}, n / 2, n - 1}) {
        for (const float value : {kInf, -kInf, kNan, -kNan}) {
          Floats input = Inputs(n, 5)[0];
          input[static_cast<size_t>(bad)] = value;
          const Floats zeros(input.size(), 0.0f);
          EXPECT_EQ(EncodeByGpu(gpu, *codec, input, zeros, 5).bytes,
                    EncodeByCpu(*codec, input, zeros).bytes)
              << gpu.name << ": " << value << " at " << bad << " of " << n;
        }
      }
    }
  }
}

// What a 16-bit format rounds to depends on 32 bits: all upper halves with the lower halves at and
// beside every tie, and all encodings back.
TEST(HalfCodecKernelTest, RoundsAndReadsEveryEncodingAsTheCpuDoes) {
  Floats all;
  for (uint32_t upper = 0; upper < 1 << 16; ++upper) {
    for (const uint32_t lower : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u,
                                 0x8001u, 0xf000u, 0xffffu}) {
      all.push_back(FromBits(upper << 16 | lower));
    }
  }
  Bytes encodings(2 << 16);
  for (size_t i = 0; i < 1 << 16; ++i) {
    const auto half = static_cast<uint16_t>(i);
    std::memcpy(encodings.data() + 2 * i, &half, 2);
  }
  for (const GpuCodec& gpu :
       {Of<HalfKernels<Fp16Format>>("fp16"), Of<HalfKernels<Bf16Format>>("bf16")}) {
    const auto codec = CpuCodec(gpu);
    EXPECT_EQ(EncodeByGpu(gpu, *codec, all, {}, 9).bytes, EncodeByCpu(*codec, all, {}).bytes)
        << gpu.name;
    Floats cpu(1 << 16), decoded(1 << 16);
    codec->Decode(encodings, 1 << 16, 0, cpu);
    gpu.decode(RunInAnyOrder(9), *codec, encodings, decoded);
    for (size_t i = 0; i < cpu.size(); ++i) {
      if (std::isnan(cpu[i])) {
        EXPECT_TRUE(std::isnan(decoded[i])) << gpu.name << " " << i;
      } else {
        EXPECT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(cpu[i]))
            << gpu.name << " " << i;
      }
    }
  }
}

// 514 / 512 lies between two bf16, and the even one is below. Two halves of 514's ulp lift it, but
// only where they meet before they meet the 514.
TEST(OneBitKernelTest, AddsUpABlockInTheCpusOrder) {
  constexpr uint32_t kSeed = 12;
  constexpr size_t kBlocks = 1000;
  std::mt19937 rng(kSeed);
  Floats input(kBlocks * kOneBitBlock, 0.0f);
  for (size_t b = 0; b < kBlocks; ++b) {
    const auto place = [&]() -> float& {
      return input[b * kOneBitBlock + rng() % size_t{kOneBitBlock}];
    };
    place() += std::ldexp(1.0f, -15);
    place() += std::ldexp(1.0f, -15);
    place() = 514;
  }
  const GpuCodec gpu = Of<OneBitKernels>("1bit");
  const auto codec = CpuCodec(gpu);
  const Floats zeros(input.size(), 0.0f);
  EXPECT_EQ(EncodeByGpu(gpu, *codec, input, zeros, kSeed).bytes,
            EncodeByCpu(*codec, input, zeros).bytes)
      << "seed " << kSeed;
}

TEST(TopkKernelTest, HostilePlacesStayWithinTheArray) {
  const GpuCodec gpu = Of<TopkKernels>("topk", 0.01);
  const auto codec = CpuCodec(gpu);
  std::mt19937 rng(11);
  for (const int64_t n : {1, 300, 16384, 16385, 40001}) {
    Bytes bytes(codec->EncodedSize(n));
    for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
    Floats memory(static_cast<size_t>(n) + 70000, 7.0f);
    TopkKernels::Decode(RunInAnyOrder(11), *codec, n, bytes.data(), memory.data());
    for (size_t i = static_cast<size_t>(n); i < memory.size(); ++i) ASSERT_EQ(memory[i], 7.0f);
  }
}

}  // namespace
}  // namespace muster::gpu
