// DeviceValues: a model's weights, the optimizer's slots and a step's gradient in the memory of the
// device that computes with them.
//
// A step of the optimizer is enqueued on the stream on which the model computes: behind the
// gradient, ahead of the next forward pass. So weights are updated in place, and nobody waits.
//
// Owned and used by one thread, the stream's, but for CopyTo. Borrows table, optimizer and stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/pinned.h"
#include "ps/checkpoint.h"
#include "ps/optimizer.h"
#include "ps/param.h"
#include "ps/runs.h"

namespace muster::ps {

class DeviceValues {
 public:
  // Begins with `values`, of the slice that WholeArena is. Fails when the device has no room, or
  // fails.
  static absl::StatusOr<std::unique_ptr<DeviceValues>> Make(const ParamTable& table,
                                                            const Optimizer& optimizer,
                                                            Stream& compute,
                                                            const SavedSlice& values);
  ~DeviceValues();
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;

  size_t params() const { return params_; }
  // Arenas [table.arena_size()] of the device.
  std::span<float> weights() const { return Whole(weights_); }
  std::span<float> gradients() const { return Whole(gradients_); }

  // Enqueues the question whether the gradient, which is complete on the stream, is finite.
  void AskFinite();
  // Waits for its answer alone. Fails when the device does.
  absl::StatusOr<bool> Finite();
  // The gradient, brought to the host.
  absl::StatusOr<std::vector<float>> Gradients() const;
  // Enqueues the optimizer's step with the gradient.
  void Update(const StepInfo& info);
  // Copies weights and slots as the last Update leaves them. From any thread, but one at a time,
  // and not beside Update. Fails when the device does.
  absl::Status CopyTo(SavedSlice& saved) const;

 private:
  DeviceValues(const ParamTable& table, const Optimizer& optimizer, Stream& compute);
  absl::Status Allocate(const SavedSlice& values);
  std::span<float> Whole(const Buffer& buffer) const {
    return {buffer.data<float>(), static_cast<size_t>(size_)};
  }

  const Optimizer& optimizer_;
  Stream& compute_;
  Device& device_;
  const size_t params_;
  const int64_t size_;
  const std::vector<Run> runs_;
  Buffer weights_, gradients_;
  std::vector<Buffer> slots_;
  Buffer found_;                                // on the device: FindNonFinite's answer
  const std::shared_ptr<std::byte[]> on_host_;  // here
  const Pinned pinned_;
  const std::unique_ptr<Event> answered_, updated_;
  const std::unique_ptr<Stream> copies_;  // CopyTo's
};

// The slice that is the table's whole arena: a bundle of all parameters.
ParamSlice WholeArena(const ParamTable& table);

}  // namespace muster::ps
