#include "ps/pulled.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/optimizer_math.h"
#include "ps/wire.h"
#include "rpc/transport.h"

namespace muster::ps {

PulledValues::PulledValues(std::shared_ptr<const Codec> codec, int64_t size,
                           const Allocate& allocate)
    : codec_(std::move(codec)) {
  if (codec_ == nullptr) return;
  const size_t bytes = codec_->EncodedSize(size);
  encodings_ =
      Parities(bytes, [=] { return allocate ? allocate(bytes) : rpc::AllocateAligned(bytes); });
}

rpc::Payload PulledValues::Encoded(int parity, int64_t version, std::span<const float> values,
                                   bool in_place) {
  if (versions_[parity] != version) {
    encodings_.Renew(parity);
    codec_->Encode(values, {}, encodings_[parity]);
    versions_[parity] = version;
  }
  return encodings_.Answer(parity, in_place);
}

absl::Status Unpack(const Codec* codec, const rpc::Payload& payload, std::span<float> out) {
  if (codec == nullptr) {
    CopyFloats(payload, out);
    return absl::OkStatus();
  }
  // An encoding is read as one range.
  const std::string gathered = payload.slices().size() == 1 ? std::string() : payload.Flatten();
  const std::span<const std::byte> bytes = payload.slices().size() == 1
                                               ? payload.slices().front().bytes
                                               : std::as_bytes(std::span(gathered));
  const auto n = static_cast<int64_t>(out.size());
  RETURN_IF_ERROR(codec->Check(bytes, n));
  for (int64_t begin = 0; begin < n; begin += kQuantum) {
    const auto size = static_cast<size_t>(std::min(kQuantum, n - begin));
    codec->Decode(bytes, n, begin, out.subspan(static_cast<size_t>(begin), size));
  }
  return absl::OkStatus();
}

}  // namespace muster::ps
