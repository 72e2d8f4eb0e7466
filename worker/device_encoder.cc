#include "worker/device_encoder.h"

#include <algorithm>
#include <utility>

#include "kernels/op.h"
#include "telemetry/check.h"

namespace muster::worker {

absl::StatusOr<std::unique_ptr<DeviceEncoder>> DeviceEncoder::Make(
    Device& device, const ps::ParamTable& table, ps::Client& client,
    std::span<const int32_t> replicas) {
  auto encoder = std::unique_ptr<DeviceEncoder>(new DeviceEncoder(device, table));
  bool any = false;
  for (const ps::ParamSpec& spec : table.specs()) {
    auto& codec = encoder->codecs_.emplace_back();
    if (spec.codec == nullptr) continue;
    codec = device.ops().MakeCodec(*spec.codec);
    if (codec == nullptr) return nullptr;
    any = true;
  }
  if (!any) return nullptr;
  for (const int32_t replica : replicas) RETURN_IF_ERROR(encoder->Take(client, replica));
  return encoder;
}

absl::Status DeviceEncoder::Take(ps::Client& client, int32_t replica) {
  Lease& lease = leases_.emplace_back();
  lease.replica = replica;
  lease.host = client.LeaveEncodingTo(*this, replica);
  lease.pinned =
      std::make_unique<Pinned>(device_, lease.host.memory.get(), lease.host.memory_bytes);
  if (leases_.size() == 1) {
    ASSIGN_OR_RETURN(encodings_, Buffer::Make(device_, lease.host.memory_bytes));
    int64_t end = 0;
    for (size_t i = 0; i < lease.host.slices.size(); ++i) {
      const ps::SliceEncoding& slice = lease.host.slices[i];
      of_param_[static_cast<size_t>(slice.param)].push_back(i);
      residual_at_.push_back(end);
      constexpr int64_t kUnit = 4;  // elements: 16 bytes
      end += (std::ssize(slice.residual) + kUnit - 1) / kUnit * kUnit;
    }
    residual_at_.push_back(end);
  }
  ASSIGN_OR_RETURN(lease.residuals,
                   Buffer::Make(device_, static_cast<size_t>(residual_at_.back()) * sizeof(float)));
  const std::unique_ptr<Stream> stream = device_.MakeStream();
  for (size_t i = 0; i < lease.host.slices.size(); ++i) {
    const std::span<float> residual = lease.host.slices[i].residual;
    CopyToDevice(*stream, residual, Tensor(ResidualOf(lease, i), {std::ssize(residual)}));
  }
  return stream->Synchronize();
}

void DeviceEncoder::Send(Stream& stream, size_t lease, ps::ParamId param, const float* arena) {
  const Lease& own = leases_[lease];
  for (const size_t i : of_param_[static_cast<size_t>(param)]) {
    const ps::SliceEncoding& slice = own.host.slices[i];
    std::byte* const encoding =
        encodings_.data<std::byte>() + (slice.bytes.data() - own.host.memory.get());
    codecs_[static_cast<size_t>(param)]->Encode(
        stream, slice.size, arena + slice.begin,
        slice.residual.empty() ? nullptr : ResidualOf(own, i), encoding);
    device_.ops().Copy(stream, slice.bytes.data(), encoding, slice.bytes.size(),
                       CopyDirection::kDeviceToHost);
  }
}

absl::Status DeviceEncoder::BringResiduals(int32_t replica) {
  const auto lease = std::ranges::find(leases_, replica, &Lease::replica);
  CHECK(lease != leases_.end());
  const std::unique_ptr<Stream> stream = device_.MakeStream();
  for (size_t i = 0; i < lease->host.slices.size(); ++i) {
    const std::span<float> residual = lease->host.slices[i].residual;
    device_.ops().Copy(*stream, residual.data(), ResidualOf(*lease, i), residual.size_bytes(),
                       CopyDirection::kDeviceToHost);
  }
  return stream->Synchronize();
}

}  // namespace muster::worker
