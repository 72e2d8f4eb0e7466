#include "worker/exchange.h"

#include <utility>
#include <vector>

#include "kernels/device.h"
#include "rpc/transport.h"
#include "telemetry/check.h"
#include "worker/device_exchange.h"

namespace muster::worker {
namespace {

class HostExchange final : public Exchange {
 public:
  HostExchange(const ps::ParamTable& table, ps::Client& client, size_t leases,
               std::shared_ptr<const ps::WeightArenas> weights)
      : table_(table), weights_(std::move(weights)) {
    for (size_t i = 0; i < leases; ++i) gradients_.push_back(client.AllocateGradients());
  }

  absl::StatusOr<ConstArenas> Weights(int64_t clock) override {
    read_ = weights_->At(clock);
    return ConstArenas(&read_, 1);
  }
  absl::Status Settle() override { return absl::OkStatus(); }
  Arenas Gradients(size_t lease) override {
    written_ = PushedGradients(lease);
    return {&written_, 1};
  }
  std::span<float> PushedGradients(size_t lease) override {
    return {gradients_[lease].get(), static_cast<size_t>(table_.arena_size())};
  }
  bool Bring(size_t, ps::ParamId) override { return true; }
  absl::Status Finish(const std::function<void(ps::ParamId)>&) override { return absl::OkStatus(); }

 private:
  const ps::ParamTable& table_;
  const std::shared_ptr<const ps::WeightArenas> weights_;
  std::vector<std::shared_ptr<float[]>> gradients_;  // stay until the next clock is in
  std::span<const float> read_;                      // what Weights handed out
  std::span<float> written_;                         // what Gradients handed out
};

// The client's parameters live where the model computes: nothing is exchanged.
class ResidentExchange final : public Exchange {
 public:
  ResidentExchange(Stream& compute, const ps::Client::OnDevice& arenas)
      : compute_(compute), weights_(arenas.weights), gradients_(arenas.gradients) {}

  absl::StatusOr<ConstArenas> Weights(int64_t) override { return ConstArenas(&weights_, 1); }
  absl::Status Settle() override { return compute_.Synchronize(); }
  Arenas Gradients(size_t) override { return {&gradients_, 1}; }
  std::span<float> PushedGradients(size_t) override { return gradients_; }
  bool Bring(size_t, ps::ParamId) override { return true; }
  absl::Status Finish(const std::function<void(ps::ParamId)>&) override {
    return compute_.Synchronize();
  }

 private:
  Stream& compute_;
  const std::span<const float> weights_;
  const std::span<float> gradients_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exchange>> MakeExchange(ModelGroup& models,
                                                       const ps::ParamTable& table,
                                                       ps::Client& client,
                                                       std::span<const int32_t> replicas,
                                                       bool encodes) {
  const std::vector<Stream*> streams = models.streams();
  if (streams.empty() || streams.front()->device().host_memory()) {
    ASSIGN_OR_RETURN(auto weights, client.AllocateWeights());
    return std::make_unique<HostExchange>(table, client, replicas.size(), std::move(weights));
  }
  if (const auto arenas = client.on_device()) {
    CHECK(streams.size() == 1 && replicas.size() == 1);
    return std::make_unique<ResidentExchange>(*streams.front(), *arenas);
  }
  HostArenas host;
  const auto size = static_cast<size_t>(table.arena_size());
  host.weights = rpc::FloatsIn(rpc::AllocateAligned(size * sizeof(float)));
  std::fill_n(host.weights.get(), size, 0.0f);  // the padding stays so
  client.SetArena({host.weights.get(), size});
  for (size_t i = 0; i < replicas.size(); ++i) {
    host.gradients.push_back(client.AllocateGradients());
  }
  std::unique_ptr<DeviceEncoder> encoder;
  if (encodes && streams.size() == 1) {
    ASSIGN_OR_RETURN(encoder, DeviceEncoder::Make(streams[0]->device(), table, client, replicas));
  }
  return MakeDeviceExchange(streams, models.communicator(), table, std::move(host), kBucketBytes,
                            std::move(encoder));
}

}  // namespace muster::worker
