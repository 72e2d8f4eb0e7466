#include "ps/pulled.h"

#include <absl/functional/function_ref.h>

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/optimizer_math.h"
#include "ps/wire.h"
#include "rpc/transport.h"

namespace muster::ps {
namespace {

// Decodes `encoded` into `out`, or adds it to that. False when a sum is not finite.
bool Decode(const Codec& codec, std::span<const std::byte> encoded, bool add,
            std::span<float> out) {
  const auto n = static_cast<int64_t>(out.size());
  alignas(64) float decoded[kQuantum];  // stays in the cache
  for (int64_t begin = 0; begin < n; begin += kQuantum) {
    const int64_t size = std::min(kQuantum, n - begin);
    float* const to = out.data() + begin;
    codec.Decode(encoded, n, begin, {add ? decoded : to, static_cast<size_t>(size)});
    if (add && !AddInto(to, decoded, size)) return false;
  }
  return true;
}

}  // namespace

PulledValues::PulledValues(std::shared_ptr<const Codec> codec, int64_t size,
                           const Allocate& allocate)
    : codec_(std::move(codec)), size_(size) {
  if (codec_ == nullptr) return;
  const auto parities = [&](size_t bytes) {
    return Parities(bytes,
                    [=] { return allocate ? allocate(bytes) : rpc::AllocateAligned(bytes); });
  };
  encodings_ = parities(codec_->EncodedSize(size));
  if (deltas()) shadows_ = parities(static_cast<size_t>(size) * sizeof(float));
}

std::span<float> PulledValues::shadow(int parity) const {
  return {reinterpret_cast<float*>(shadows_[parity].data()), static_cast<size_t>(size_)};
}

void PulledValues::Advance(int parity, int64_t version, std::span<const float> values) {
  shadows_.Renew(parity);
  encodings_.Renew(parity);
  const std::span<const float> before = shadow(1 - parity);
  const std::span<float> after = shadow(parity);
  // The residual that Encode adds: w + (-shadow) is the difference. What it leaves there follows
  // from w and the new shadow.
  std::ranges::transform(before, after.begin(), std::negate<float>());
  codec_->Encode(values, after, encodings_[parity]);
  std::ranges::copy(before, after.begin());
  // Values that are not finite are the readers' to refuse, who read no others.
  static_cast<void>(Decode(*codec_, encodings_[parity], /*add=*/true, after));
  versions_[parity] = version;
}

rpc::Payload PulledValues::Delta(int parity, bool in_place) const {
  return encodings_.Answer(parity, in_place);
}

rpc::Payload PulledValues::Whole(int parity, int64_t version, std::span<const float> values,
                                 bool in_place) {
  if (deltas()) return shadows_.Answer(parity, in_place);
  if (versions_[parity] != version) {
    encodings_.Renew(parity);
    codec_->Encode(values, {}, encodings_[parity]);
    versions_[parity] = version;
  }
  return encodings_.Answer(parity, in_place);
}

absl::Status Unpack(const Codec* codec, bool delta, const rpc::Payload& payload,
                    std::span<float> out) {
  if (codec == nullptr || (SendsDeltas(codec) && !delta)) {
    CopyFloats(payload, out);
    return absl::OkStatus();
  }
  // An encoding is read as one range.
  const std::string gathered = payload.slices().size() == 1 ? std::string() : payload.Flatten();
  const std::span<const std::byte> bytes = payload.slices().size() == 1
                                               ? payload.slices().front().bytes
                                               : std::as_bytes(std::span(gathered));
  RETURN_IF_ERROR(codec->Check(bytes, static_cast<int64_t>(out.size())));
  if (Decode(*codec, bytes, delta, out)) return absl::OkStatus();
  return absl::InvalidArgumentError("they hold a value that is not finite");
}

}  // namespace muster::ps
