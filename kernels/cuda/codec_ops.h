// KernelCodec: a codec on a GPU, by the kernels that its header here has.
//
// The kernels of a codec are a struct with
//   static int64_t ScratchBytes(int64_t n);  // that Encode needs
//   template <class Run> static void Encode(const Run&, const Codec&, int64_t n,
//                                           const float* gradient, float* residual,
//                                           std::byte* out, void* scratch);
//   template <class Run> static void Decode(const Run&, const Codec&, int64_t n,
//                                           const std::byte* encoded, float* out);
// whose passes run(indices, kernel) runs one after the other. n > 0; scratch, as all memory, is
// aligned to 16 bytes. A codec that has such gets a line in MakeKernelCodec, and its kernels theirs
// in launch.cu; one that has none is encoded on the host. Thread-safe.
#pragma once

#include <memory>
#include <string_view>

#include "kernels/codec.h"
#include "kernels/cuda/codec_half_kernels.h"
#include "kernels/cuda/codec_int8_kernels.h"
#include "kernels/cuda/codec_one_bit_kernels.h"
#include "kernels/cuda/codec_topk_kernels.h"
#include "kernels/cuda/kernel.h"
#include "kernels/device_ops.h"
#include "telemetry/check.h"

namespace muster::gpu {

// Ops: a KernelOps (kernel_ops.h). Borrows both.
template <class Ops, class Kernels>
class KernelCodec final : public DeviceCodec {
 public:
  KernelCodec(Ops& ops, const Codec& codec) : ops_(ops), codec_(codec) {}

  void Encode(Stream& stream, int64_t n, const float* gradient, float* residual,
              std::byte* out) override {
    CHECK(ByFours(4, gradient, residual, out));
    CHECK_EQ(residual != nullptr, codec_.has_residual());
    if (n == 0) return;
    const int64_t bytes = Kernels::ScratchBytes(n);
    Kernels::Encode(RunOn(stream), codec_, n, gradient, residual, out,
                    bytes > 0 ? ops_.Scratch(stream, CeilDiv(bytes, sizeof(float))) : nullptr);
  }

  void Decode(Stream& stream, int64_t n, const std::byte* encoded, float* out) override {
    CHECK(ByFours(4, encoded, out));
    if (n > 0) Kernels::Decode(RunOn(stream), codec_, n, encoded, out);
  }

 private:
  auto RunOn(Stream& stream) {
    return [this, &stream](int64_t n, const auto& kernel) { ops_.Run(stream, n, kernel); };
  }

  Ops& ops_;
  const Codec& codec_;
};

template <class Kernels, class Ops>
std::unique_ptr<DeviceCodec> MakeKernelCodecOf(Ops& ops, const Codec& codec) {
  return std::make_unique<KernelCodec<Ops, Kernels>>(ops, codec);
}

// By the codec's name. Null: it has no kernels.
template <class Ops>
std::unique_ptr<DeviceCodec> MakeKernelCodec(Ops& ops, const Codec& codec) {
  struct Entry {
    std::string_view name;
    std::unique_ptr<DeviceCodec> (*make)(Ops&, const Codec&);
  };
  constexpr Entry kTable[] = {
      {"fp16", &MakeKernelCodecOf<HalfKernels<Fp16Format>, Ops>},
      {"bf16", &MakeKernelCodecOf<HalfKernels<Bf16Format>, Ops>},
      {"int8", &MakeKernelCodecOf<Int8Kernels, Ops>},
      {"1bit", &MakeKernelCodecOf<OneBitKernels, Ops>},
      {"topk", &MakeKernelCodecOf<TopkKernels, Ops>},
  };
  for (const Entry& entry : kTable) {
    if (entry.name == codec.name()) return entry.make(ops, codec);
  }
  return nullptr;
}

}  // namespace muster::gpu
