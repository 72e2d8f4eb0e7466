// A replica's encodings in the hands of who makes them: gradients that are computed on a device are
// encoded there, so that what crosses to the host is the encoding.
//
// Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ps/param.h"
#include "telemetry/status.h"

namespace muster::ps {

// Of a slice whose parameter has a codec, on the host.
struct SliceEncoding {
  ParamId param = 0;
  int64_t begin = 0, size = 0;  // elements, in an arena
  std::span<std::byte> bytes;   // the encoding
  std::span<float> residual;    // [size], or empty: the codec keeps nothing back
};

struct ReplicaEncodings {
  std::shared_ptr<std::byte[]> memory;  // of all encodings
  size_t memory_bytes = 0;
  std::vector<SliceEncoding> slices;  // in the partition's order
};

// Who makes a replica's encodings instead of the client. Called by the thread that pushes.
class ReplicaEncoder {
 public:
  virtual ~ReplicaEncoder() = default;
  // Copies what the replica has not sent yet to where ReplicaEncodings has it. Fails when a device
  // does.
  virtual absl::Status BringResiduals(int32_t replica) = 0;
};

}  // namespace muster::ps
