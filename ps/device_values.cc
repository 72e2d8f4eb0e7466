#include "ps/device_values.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/op.h"
#include "rpc/transport.h"

namespace muster::ps {
namespace {

constexpr size_t kFlagBytes = sizeof(int32_t);

absl::Status CopyToHostWith(Stream& stream, const Buffer& from, std::vector<float>& to) {
  to.resize(from.size_bytes() / sizeof(float));
  return CopyToHost(stream, {from.data<float>(), {static_cast<int64_t>(to.size())}}, to);
}

}  // namespace

ParamSlice WholeArena(const ParamTable& table) {
  return {0, 0, table.arena_size(), static_cast<int32_t>(table.specs().size())};
}

DeviceValues::DeviceValues(const ParamTable& table, const Optimizer& optimizer, Stream& compute)
    : optimizer_(optimizer),
      compute_(compute),
      device_(compute.device()),
      params_(table.specs().size()),
      size_(table.arena_size()),
      runs_(MakeRuns(table, WholeArena(table), optimizer)),
      on_host_(rpc::AllocateAligned(kFlagBytes)),
      pinned_(device_, on_host_.get(), kFlagBytes),
      answered_(device_.MakeEvent()),
      updated_(device_.MakeEvent()),
      copies_(device_.MakeStream()) {}

absl::StatusOr<std::unique_ptr<DeviceValues>> DeviceValues::Make(const ParamTable& table,
                                                                 const Optimizer& optimizer,
                                                                 Stream& compute,
                                                                 const SavedSlice& values) {
  auto made = std::unique_ptr<DeviceValues>(new DeviceValues(table, optimizer, compute));
  RETURN_IF_ERROR(made->Allocate(values));
  return made;
}

DeviceValues::~DeviceValues() {
  // Nothing works on the memory any more when it goes.
  (void)compute_.Synchronize();
  (void)copies_->Synchronize();
}

absl::Status DeviceValues::Allocate(const SavedSlice& values) {
  const size_t bytes = static_cast<size_t>(size_) * sizeof(float);
  const auto put = [&](const std::vector<float>& from, Buffer& to) -> absl::Status {
    ASSIGN_OR_RETURN(to, Buffer::Make(device_, bytes));
    CopyToDevice(compute_, from, Tensor(to.data<float>(), {size_}));
    return absl::OkStatus();
  };
  absl::Status status = put(values.weights, weights_);
  slots_.resize(values.slots.size());
  for (size_t i = 0; status.ok() && i < slots_.size(); ++i) {
    status = put(values.slots[i], slots_[i]);
  }
  // Behind which `values` may go.
  const absl::Status copied = compute_.Synchronize();
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(copied);
  ASSIGN_OR_RETURN(gradients_, Buffer::Make(device_, bytes));
  ASSIGN_OR_RETURN(found_, Buffer::Make(device_, kFlagBytes));
  return absl::OkStatus();
}

void DeviceValues::AskFinite() {
  DeviceOps& ops = device_.ops();
  ops.FindNonFinite(compute_, size_, gradients_.data<float>(), found_.data<int32_t>());
  ops.Copy(compute_, on_host_.get(), found_.data<void>(), kFlagBytes, CopyDirection::kDeviceToHost);
  compute_.Record(*answered_);
}

absl::StatusOr<bool> DeviceValues::Finite() {
  RETURN_IF_ERROR(answered_->Synchronize());
  return *reinterpret_cast<const int32_t*>(on_host_.get()) == 0;
}

absl::StatusOr<std::vector<float>> DeviceValues::Gradients() const {
  std::vector<float> gradient;
  RETURN_IF_ERROR(CopyToHostWith(compute_, gradients_, gradient));
  return gradient;
}

void DeviceValues::Update(const StepInfo& info) {
  std::vector<std::span<float>> slots(slots_.size());
  for (const Run& run : runs_) {
    const auto part = [&](const Buffer& buffer) {
      return Whole(buffer).subspan(static_cast<size_t>(run.begin),
                                   static_cast<size_t>(run.end - run.begin));
    };
    for (size_t i = 0; i < slots.size(); ++i) slots[i] = part(slots_[i]);
    UpdateRun(compute_, optimizer_, run, info, /*n=*/1, /*share=*/1,
              {part(gradients_), part(weights_), part(weights_), slots});
  }
  compute_.Record(*updated_);
}

absl::Status DeviceValues::CopyTo(SavedSlice& saved) const {
  copies_->Wait(*updated_);
  RETURN_IF_ERROR(CopyToHostWith(*copies_, weights_, saved.weights));
  saved.slots.resize(slots_.size());
  for (size_t i = 0; i < slots_.size(); ++i) {
    RETURN_IF_ERROR(CopyToHostWith(*copies_, slots_[i], saved.slots[i]));
  }
  return absl::OkStatus();
}

}  // namespace muster::ps
