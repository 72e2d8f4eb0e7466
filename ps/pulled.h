// How a slice's values travel to the workers where its parameter has a pull codec. The shard's own
// values w stay float32; all workers read the same bits, over any transport.
//
// A codec without a residual (fp16, bf16) encodes each version once, whoever reads it, and a worker
// decodes it. One with a residual (int8, 1bit, topk) cannot hold a value, only what it changed by:
// the shard knows what all workers hold, the shadow, and sends what brings them nearer.
//
//   delta_v  = Encode(w_v - shadow_{v-1})
//   shadow_v = shadow_{v-1} + Decode(delta_v),   shadow = w of the first version there is
//
// What a delta left out is a part of the next difference: error feedback on the way down, as in
// DoubleSqueeze (Tang et al., 2019). Who holds version v - 1 gets delta_v, anybody else shadow_v as
// float32. Versions must follow one another on all workers alike, so this is for BSP alone.
//
// PulledValues is owned by one thread (the shard's). Unpack is a pure function: thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "kernels/codec.h"
#include "ps/param.h"
#include "ps/parities.h"
#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::ps {

// Of the shadow in checkpoints, beside an optimizer's slots.
inline constexpr char kShadowSlot[] = "pulled";

// What readers of a slice get, in two parities as the values themselves (ps/slice.h).
class PulledValues {
 public:
  using Allocate = std::function<std::shared_ptr<std::byte[]>(size_t size)>;
  // `codec` null: the slice has none, and nothing else may be called but encodes and deltas.
  // `allocate` null: the heap.
  PulledValues(std::shared_ptr<const Codec> codec, int64_t size, const Allocate& allocate);

  bool encodes() const { return codec_ != nullptr; }
  bool deltas() const { return SendsDeltas(codec_.get()); }

  // What readers of the version at `parity` hold. With deltas: to be set for the first version.
  std::span<float> shadow(int parity) const;
  // With deltas: `values` are `version`, which follows that of the other parity, at `parity`.
  void Advance(int parity, int64_t version, std::span<const float> values);
  // Whether Delta has what leads to `version`.
  bool has_delta(int parity, int64_t version) const {
    return deltas() && versions_[parity] == version;
  }
  // To be read in place or lent.
  rpc::Payload Delta(int parity, bool in_place) const;
  // The version at `parity` for readers that hold nothing: the shadow, or the encoding of `values`,
  // which are `version`.
  rpc::Payload Whole(int parity, int64_t version, std::span<const float> values, bool in_place);

 private:
  const std::shared_ptr<const Codec> codec_;
  const int64_t size_;
  Parities encodings_;
  Parities shadows_;                // with deltas
  int64_t versions_[2] = {-1, -1};  // of the encodings, by parity
};

// Turns a payload into values: of a PulledValues with `codec`, or plain ones where that is null.
// With `delta`, `out` holds those of the version before. InvalidArgument when it cannot be decoded,
// or a delta's sum is not finite. PRECONDITION: the payload has PullBytes (ps/param.h).
absl::Status Unpack(const Codec* codec, bool delta, const rpc::Payload& payload,
                    std::span<float> out);

}  // namespace muster::ps
