// How a slice's values travel to the workers where its parameter has a pull codec: the shard
// encodes each version once, whoever reads it, and a worker decodes it into its arena; so all
// workers read the same bits, over any transport, while the shard's own values stay float32.
//
// PulledValues is owned by one thread (the shard's). Unpack is a pure function: thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "kernels/codec.h"
#include "ps/parities.h"
#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::ps {

// The encodings of a slice's values, in two parities as the values themselves (ps/slice.h).
class PulledValues {
 public:
  using Allocate = std::function<std::shared_ptr<std::byte[]>(size_t size)>;
  // `codec` null: the slice has none, and nothing else may be called. `allocate` null: the heap.
  PulledValues(std::shared_ptr<const Codec> codec, int64_t size, const Allocate& allocate);

  bool encodes() const { return codec_ != nullptr; }
  // The encoding of `values`, which are `version`, at `parity`, to be read in place or lent.
  rpc::Payload Encoded(int parity, int64_t version, std::span<const float> values, bool in_place);

 private:
  const std::shared_ptr<const Codec> codec_;
  Parities encodings_;
  int64_t versions_[2] = {-1, -1};  // by parity
};

// Decodes what PulledValues encoded with `codec`, or copies plain values where that is null.
// InvalidArgument when it cannot be decoded. PRECONDITION: the payload has the size that the codec
// says for `out`.
absl::Status Unpack(const Codec* codec, const rpc::Payload& payload, std::span<float> out);

}  // namespace muster::ps
