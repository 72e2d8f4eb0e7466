// Exchange: between the arenas that a model computes in and those that the client pushes from and
// puts parameters into.
//
// On cpu they are the same. A GPU's lie in its own memory: parameters are copied there when a step,
// or an evaluation, asks for them; gradients come back bucket by bucket while the backward pass
// goes on: neighbouring parameters whose gradients are complete, up to kBucketBytes.
//
//   Weights(clock) → model.Forward, model.Backward(Gradients, on_grad → Bring) → Finish
//
// Used by one thread (the trainer's). Owns the arenas; borrows the rest.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "ps/client.h"
#include "ps/param.h"
#include "telemetry/status.h"

namespace muster::worker {

inline constexpr int64_t kBucketBytes = 1 << 20;

class Exchange {
 public:
  virtual ~Exchange() = default;

  // The parameters of `clock`, which the client has, where the model reads them; until the client's
  // change.
  virtual absl::StatusOr<std::span<const float>> Weights(int64_t clock) = 0;
  // Where the model writes the gradient of the process's lease number `lease`.
  virtual std::span<float> Gradients(size_t lease) = 0;
  // The same, on the host, for what Bring and Finish have handed over.
  virtual std::span<float> HostGradients(size_t lease) = 0;
  // The gradient of `param` is complete on the model's stream. True when it lies on the host
  // already; else Finish hands it over. The lease is the last one of Gradients.
  virtual bool Bring(ps::ParamId param) = 0;
  // Calls `on_host` for each parameter that Bring did not hand over, as soon as it is there, and
  // returns when all are. Fails when the device does.
  virtual absl::Status Finish(const std::function<void(ps::ParamId)>& on_host) = 0;
};

// For a model that computes on `stream`, or on the host where that is null, or its device's memory
// is the host's. The client's parameters go where the exchange wants them from now on. Fails when
// there is no memory.
absl::StatusOr<std::unique_ptr<Exchange>> MakeExchange(Stream* stream, const ps::ParamTable& table,
                                                       ps::Client& client, size_t leases);

}  // namespace muster::worker
