#include "worker/exchange.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "kernels/op.h"
#include "kernels/pinned.h"
#include "rpc/transport.h"

namespace muster::worker {
namespace {

class HostExchange final : public Exchange {
 public:
  HostExchange(const ps::ParamTable& table, ps::Client& client, size_t leases,
               std::shared_ptr<const ps::WeightArenas> weights)
      : table_(table), weights_(std::move(weights)) {
    for (size_t i = 0; i < leases; ++i) gradients_.push_back(client.AllocateGradients());
  }

  absl::StatusOr<std::span<const float>> Weights(int64_t clock) override {
    return weights_->At(clock);
  }
  std::span<float> Gradients(size_t lease) override { return HostGradients(lease); }
  std::span<float> HostGradients(size_t lease) override {
    return {gradients_[lease].get(), static_cast<size_t>(table_.arena_size())};
  }
  bool Bring(ps::ParamId) override { return true; }
  absl::Status Finish(const std::function<void(ps::ParamId)>&) override { return absl::OkStatus(); }

 private:
  const ps::ParamTable& table_;
  const std::shared_ptr<const ps::WeightArenas> weights_;
  std::vector<std::shared_ptr<float[]>> gradients_;  // stay until the next clock is in
};

class DeviceExchange final : public Exchange {
 public:
  DeviceExchange(Stream& compute, const ps::ParamTable& table, ps::Client& client, size_t leases)
      : compute_(compute),
        device_(compute.device()),
        table_(table),
        copies_(device_.MakeStream()),
        computed_(device_.MakeEvent()),
        size_(static_cast<size_t>(table.arena_size())),
        host_weights_(rpc::FloatsIn(rpc::AllocateAligned(size_ * sizeof(float)))),
        weights_(device_, size_ * sizeof(float)),
        gradients_(device_, size_ * sizeof(float)) {
    std::fill_n(host_weights_.get(), size_, 0.0f);  // the padding stays so
    client.SetArena({host_weights_.get(), size_});
    Pin(host_weights_.get());
    for (size_t i = 0; i < leases; ++i) {
      host_gradients_.push_back(client.AllocateGradients());
      Pin(host_gradients_.back().get());
    }
  }

  ~DeviceExchange() override {
    // Nothing is copied any more when the memory goes.
    (void)compute_.Synchronize();
    (void)copies_->Synchronize();
  }

  // Copied each time: outside of BSP a clock's parameters change, and evaluations are few.
  absl::StatusOr<std::span<const float>> Weights(int64_t) override {
    CopyToDevice(compute_, std::span<const float>(host_weights_.get(), size_),
                 Tensor(weights_.data<float>(), {table_.arena_size()}));
    return std::span<const float>(weights_.data<float>(), size_);
  }

  std::span<float> Gradients(size_t lease) override {
    lease_ = lease;
    return {gradients_.data<float>(), size_};
  }

  std::span<float> HostGradients(size_t lease) override {
    return {host_gradients_[lease].get(), size_};
  }

  bool Bring(ps::ParamId param) override {
    const bool joins = param + 1 == bucket_.first || param == bucket_.last + 1;
    if (!bucket_.params.empty() && !joins) CopyBucket();
    if (bucket_.params.empty()) bucket_.first = bucket_.last = param;
    bucket_.first = std::min(bucket_.first, param);
    bucket_.last = std::max(bucket_.last, param);
    bucket_.params.push_back(param);
    if (BytesOf(bucket_) >= kBucketBytes) CopyBucket();
    return false;
  }

  absl::Status Finish(const std::function<void(ps::ParamId)>& on_host) override {
    if (!bucket_.params.empty()) CopyBucket();
    for (Bucket& bucket : std::exchange(copying_, {})) {
      RETURN_IF_ERROR(bucket.copied->Synchronize());
      for (const ps::ParamId param : bucket.params) on_host(param);
      idle_.push_back(std::move(bucket.copied));
    }
    // What the streams could not enqueue would else be found out much later.
    RETURN_IF_ERROR(copies_->Synchronize());
    return compute_.Synchronize();
  }

 private:
  // Parameters [first, last], in the order in which they came.
  struct Bucket {
    ps::ParamId first = 0, last = 0;
    std::vector<ps::ParamId> params;
    std::unique_ptr<Event> copied;
  };

  void Pin(float* data) {
    pinned_.push_back(std::make_unique<Pinned>(device_, data, size_ * sizeof(float)));
  }

  int64_t BeginOf(const Bucket& bucket) const { return table_.offset(bucket.first); }
  int64_t BytesOf(const Bucket& bucket) const {
    const int64_t end =
        table_.offset(bucket.last) + table_.specs()[static_cast<size_t>(bucket.last)].size();
    return (end - BeginOf(bucket)) * static_cast<int64_t>(sizeof(float));
  }

  // Behind what the model has computed, beside what it goes on with.
  void CopyBucket() {
    compute_.Record(*computed_);
    copies_->Wait(*computed_);
    const int64_t begin = BeginOf(bucket_);
    device_.ops().Copy(*copies_, host_gradients_[lease_].get() + begin,
                       gradients_.data<float>() + begin, static_cast<size_t>(BytesOf(bucket_)),
                       CopyDirection::kDeviceToHost);
    if (idle_.empty()) idle_.push_back(device_.MakeEvent());
    bucket_.copied = std::move(idle_.back());
    idle_.pop_back();
    copies_->Record(*bucket_.copied);
    copying_.push_back(std::exchange(bucket_, {}));
  }

  Stream& compute_;
  Device& device_;
  const ps::ParamTable& table_;
  const std::unique_ptr<Stream> copies_;
  const std::unique_ptr<Event> computed_;
  const size_t size_;  // of an arena, in elements
  const std::shared_ptr<float[]> host_weights_;
  const Buffer weights_, gradients_;
  std::vector<std::shared_ptr<float[]>> host_gradients_;  // stay until the next clock is in
  std::vector<std::unique_ptr<Pinned>> pinned_;           // goes before the memory does
  size_t lease_ = 0;
  Bucket bucket_;               // that is being filled
  std::deque<Bucket> copying_;  // in the order of their copies
  std::vector<std::unique_ptr<Event>> idle_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exchange>> MakeExchange(Stream* stream, const ps::ParamTable& table,
                                                       ps::Client& client, size_t leases) {
  if (stream != nullptr && !stream->device().host_memory()) {
    return std::make_unique<DeviceExchange>(*stream, table, client, leases);
  }
  ASSIGN_OR_RETURN(auto weights, client.AllocateWeights());
  return std::make_unique<HostExchange>(table, client, leases, std::move(weights));
}

}  // namespace muster::worker
