// DeviceEncoder: encodes gradients on the device that computes them, instead of the client
// (ps/encodings.h): the same bytes and residuals, but only encodings are copied to the host, and no
// thread of the host encodes. What the codecs keep back lies on the device, and comes to the host
// for checkpoints.
//
// Used by one thread, the trainer's; outlives the client.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/device_ops.h"
#include "kernels/pinned.h"
#include "ps/client.h"
#include "ps/encodings.h"
#include "ps/param.h"

namespace muster::worker {

class DeviceEncoder final : public ps::ReplicaEncoder {
 public:
  // For the gradients of `replicas`, a lease each, from now on; the residuals are those that the
  // client has. Null, and nothing has changed, where no parameter has a codec, or the device has no
  // code for one of them. Fails when the device does, or has no room. Borrows all.
  static absl::StatusOr<std::unique_ptr<DeviceEncoder>> Make(Device& device,
                                                             const ps::ParamTable& table,
                                                             ps::Client& client,
                                                             std::span<const int32_t> replicas);

  // Whether the parameter has a codec.
  bool Encodes(ps::ParamId param) const { return codecs_[static_cast<size_t>(param)] != nullptr; }
  // Tells `stream`, always the same, to encode the gradient of `param` in the device's `arena` and
  // to copy that to where the client sends it from.
  void Send(Stream& stream, size_t lease, ps::ParamId param, const float* arena);

  absl::Status BringResiduals(int32_t replica) override;

 private:
  struct Lease {
    int32_t replica = 0;
    ps::ReplicaEncodings host;
    std::unique_ptr<Pinned> pinned;  // the host's memory; goes before that does
    Buffer residuals;
  };
  DeviceEncoder(Device& device, const ps::ParamTable& table)
      : device_(device), of_param_(table.specs().size()) {}
  absl::Status Take(ps::Client& client, int32_t replica);
  float* ResidualOf(const Lease& lease, size_t slice) const {
    return lease.residuals.data<float>() + residual_at_[slice];
  }

  Device& device_;
  std::vector<std::unique_ptr<DeviceCodec>> codecs_;  // by parameter; null: it has none
  std::vector<Lease> leases_;
  // The same for all leases.
  std::vector<std::vector<size_t>> of_param_;  // indices of ReplicaEncodings::slices
  std::vector<int64_t> residual_at_;           // by slice: where it begins, in elements
  Buffer encodings_;                           // as the host's memory; of what is on its way
};

}  // namespace muster::worker
