// Exchange: between the arenas that models compute in and those that the client pushes from and
// puts parameters into.
//
// On cpu they are the same, and where the parameters live on the device that computes
// (ps/residence.h). Other devices have memory of their own: parameters are copied there when a
// step, or an evaluation, asks for them; gradients come back bucket by bucket while the backward
// pass goes on (worker/device_exchange.h).
//
//   Weights(clock) → models.Forward, models.Backward(Gradients, on_grad → Bring) → Finish
//
// Used by one thread (the trainer's). Owns the arenas; borrows the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "ps/client.h"
#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/model_group.h"

namespace muster::worker {

class Exchange {
 public:
  virtual ~Exchange() = default;

  // The parameters of `clock`, which the client has, where the models read them; until the client's
  // change, or the next call. Fails when a device does.
  virtual absl::StatusOr<ConstArenas> Weights(int64_t clock) = 0;
  // Returns when the models' streams have come as far as they were told. Fails when a device does,
  // where to wait for one of them alone could be for ever.
  virtual absl::Status Settle() = 0;
  // Where the models write the gradient of the process's lease number `lease`; until the next call.
  virtual Arenas Gradients(size_t lease) = 0;
  // Their sum where the client pushes it from, for what Bring and Finish have handed over; not of
  // parameters that the exchange has encoded.
  virtual std::span<float> PushedGradients(size_t lease) = 0;
  // The gradient of `param` is complete on the stream of model number `device`. True when it can be
  // pushed already; else Finish hands it over. The lease is the last one of Gradients.
  virtual bool Bring(size_t device, ps::ParamId param) = 0;
  // Calls `on_host` for each parameter that Bring did not hand over, as soon as it is there, and
  // returns when all are. Fails when a device does. PRECONDITION: Bring was called for each
  // parameter and device.
  virtual absl::Status Finish(const std::function<void(ps::ParamId)>& on_host) = 0;
};

// For `models`, which are prepared for `table`, and the process's leases on `replicas`. The
// client's parameters go where the exchange wants them from now on. With `encodes` the gradients of
// one device are encoded there, where it can (worker/device_encoder.h). Fails when there is no
// memory, or a device fails.
absl::StatusOr<std::unique_ptr<Exchange>> MakeExchange(ModelGroup& models,
                                                       const ps::ParamTable& table,
                                                       ps::Client& client,
                                                       std::span<const int32_t> replicas,
                                                       bool encodes);

}  // namespace muster::worker
