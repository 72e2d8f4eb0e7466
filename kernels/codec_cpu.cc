// The cpu device's codecs: Codec does it all.
#include <span>

#include "kernels/op_cpu.h"

namespace muster {
namespace {

class CpuCodec final : public DeviceCodec {
 public:
  explicit CpuCodec(const Codec& codec) : codec_(codec) {}

  void Encode(Stream&, int64_t n, const float* gradient, float* residual, std::byte* out) override {
    const auto size = static_cast<size_t>(n);
    codec_.Encode({gradient, size}, {residual, residual == nullptr ? 0 : size},
                  {out, codec_.EncodedSize(n)});
  }
  void Decode(Stream&, int64_t n, const std::byte* encoded, float* out) override {
    codec_.Decode({encoded, codec_.EncodedSize(n)}, n, 0, {out, static_cast<size_t>(n)});
  }

 private:
  const Codec& codec_;
};

}  // namespace

std::unique_ptr<DeviceCodec> CpuOps::MakeCodec(const Codec& codec) {
  return std::make_unique<CpuCodec>(codec);
}

}  // namespace muster
