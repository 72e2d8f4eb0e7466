#include "worker/device_exchange.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "kernels/device.h"
#include "kernels/op.h"
#include "kernels/pinned.h"
#include "telemetry/check.h"

namespace muster::worker {
namespace {

// Neighbouring parameters whose gradients travel together. In elements.
struct Bucket {
  int64_t begin = 0, size = 0;  // in the arena
  int64_t slice = 0;            // of a device
  int64_t slice_begin = 0;      // where a device sums its slice, in Rank::sums
  std::vector<ps::ParamId> params;
};

// What a device has for itself.
struct Rank {
  Rank(Stream& stream, int64_t arena, int64_t gradient_arena, int64_t sum_arena)
      : compute(stream),
        device(stream.device()),
        copies(device.MakeStream()),
        settled(device.MakeEvent()),
        weights(device, static_cast<size_t>(arena) * sizeof(float)),
        gradients(device, static_cast<size_t>(gradient_arena) * sizeof(float)),
        sums(device, static_cast<size_t>(sum_arena) * sizeof(float)) {}

  Stream& compute;
  Device& device;
  const std::unique_ptr<Stream> copies;
  const std::unique_ptr<Event> settled;
  const Buffer weights, gradients;
  const Buffer sums;         // of its slices; of no size where the gradients are the sums
  std::vector<int> missing;  // by bucket: parameters whose gradients are to come
  std::vector<std::unique_ptr<Event>> computed, copied;  // by bucket
};

class DeviceExchange final : public Exchange {
 public:
  DeviceExchange(std::span<Stream* const> streams, Communicator* communicator,
                 const ps::ParamTable& table, HostArenas host, int64_t bucket_bytes,
                 std::unique_ptr<DeviceEncoder> encoder)
      : communicator_(communicator),
        table_(table),
        size_(table.arena_size()),
        ranks_count_(static_cast<int64_t>(streams.size())),
        host_(std::move(host)),
        encoder_(std::move(encoder)) {
    CHECK(encoder_ == nullptr || !several());
    CHECK(!streams.empty() && !host_.gradients.empty());
    CHECK(!several() || communicator_->ranks() == static_cast<int>(streams.size()));
    MakeBuckets(table, bucket_bytes);
    const int64_t sums = several() ? buckets_.back().slice_begin + buckets_.back().slice : 0;
    weight_slice_ = SliceOf(size_);
    for (Stream* const stream : streams) {
      // A sum reads whole slices: the last ones reach beyond the arena's end.
      auto rank = std::make_unique<Rank>(*stream, weight_slice_ * ranks_count_,
                                         size_ + kSliceUnit * ranks_count_, sums);
      for (size_t b = 0; b < buckets_.size(); ++b) {
        rank->computed.push_back(rank->device.MakeEvent());
        rank->copied.push_back(rank->device.MakeEvent());
      }
      weights_.emplace_back(rank->weights.data<float>(), static_cast<size_t>(size_));
      gradients_.emplace_back(rank->gradients.data<float>(), static_cast<size_t>(size_));
      compute_streams_.push_back(&rank->compute);
      copy_streams_.push_back(rank->copies.get());
      ranks_.push_back(std::move(rank));
    }
    // Memory that one device pins is pinned for all.
    Pin(host_.weights.get());
    for (const auto& gradients : host_.gradients) Pin(gradients.get());
  }

  ~DeviceExchange() override {
    // Nothing is copied any more when the memory goes.
    for (const auto& rank : ranks_) {
      (void)rank->compute.Synchronize();
      (void)rank->copies->Synchronize();
    }
  }

  // Copied each time: outside of BSP a clock's parameters change, and evaluations are few.
  absl::StatusOr<ConstArenas> Weights(int64_t) override {
    std::vector<const float*> send;
    std::vector<float*> receive;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const int64_t begin = std::min(size_, static_cast<int64_t>(r) * weight_slice_);
      const int64_t size = std::min(size_ - begin, weight_slice_);
      float* const arena = ranks_[r]->weights.data<float>();
      CopyToDevice(ranks_[r]->compute, {host_.weights.get() + begin, static_cast<size_t>(size)},
                   Tensor(arena + begin, {size}));
      send.push_back(arena + static_cast<int64_t>(r) * weight_slice_);
      receive.push_back(arena);
    }
    if (several()) {
      RETURN_IF_ERROR(
          LetGoUnless(communicator_->AllGather(compute_streams_, send, receive, weight_slice_)));
    }
    return ConstArenas(weights_);
  }

  absl::Status Settle() override {
    for (const auto& rank : ranks_) rank->compute.Record(*rank->settled);
    return LetGoUnless(Await([](Rank& rank) -> Event& { return *rank.settled; }));
  }

  Arenas Gradients(size_t lease) override {
    lease_ = lease;
    complete_.assign(buckets_.size(), 0);
    for (const auto& rank : ranks_) {
      rank->missing.clear();
      for (const Bucket& bucket : buckets_) {
        rank->missing.push_back(static_cast<int>(bucket.params.size()));
      }
    }
    return gradients_;
  }

  std::span<float> PushedGradients(size_t lease) override {
    return {host_.gradients[lease].get(), static_cast<size_t>(size_)};
  }

  bool Bring(size_t device, ps::ParamId param) override {
    const size_t b = bucket_of_[static_cast<size_t>(param)];
    Rank& rank = *ranks_[device];
    if (--rank.missing[b] > 0) return false;
    rank.compute.Record(*rank.computed[b]);
    if (++complete_[b] == ranks_.size()) Send(b);
    return false;
  }

  absl::Status Finish(const std::function<void(ps::ParamId)>& on_host) override {
    return LetGoUnless(Collect(on_host));
  }

 private:
  static constexpr int64_t kSliceUnit = 4;

  bool several() const { return ranks_count_ > 1; }
  int64_t SliceOf(int64_t size) const {
    const int64_t unit = kSliceUnit * ranks_count_;
    return several() ? (size + unit - 1) / unit * kSliceUnit : size;
  }

  void Pin(float* data) {
    pinned_.push_back(std::make_unique<Pinned>(ranks_.front()->device, data,
                                               static_cast<size_t>(size_) * sizeof(float)));
  }

  void MakeBuckets(const ps::ParamTable& table, int64_t bucket_bytes) {
    const auto params = static_cast<ps::ParamId>(table.specs().size());
    for (ps::ParamId param = 0; param < params; ++param) {
      const int64_t end = table.offset(param) + table.specs()[static_cast<size_t>(param)].size();
      const bool joins =
          !buckets_.empty() &&
          (end - buckets_.back().begin) * static_cast<int64_t>(sizeof(float)) <= bucket_bytes;
      if (!joins) buckets_.push_back({.begin = table.offset(param)});
      buckets_.back().size = end - buckets_.back().begin;
      buckets_.back().params.push_back(param);
      bucket_of_.push_back(buckets_.size() - 1);
    }
    int64_t slice_begin = 0;
    for (Bucket& bucket : buckets_) {
      bucket.slice = SliceOf(bucket.size);
      bucket.slice_begin = slice_begin;
      slice_begin += bucket.slice;
    }
  }

  // Behind what the models have computed, beside what they go on with.
  void Send(size_t b) {
    const Bucket& bucket = buckets_[b];
    std::vector<const float*> send;
    std::vector<float*> sums;
    for (const auto& rank : ranks_) {
      rank->copies->Wait(*rank->computed[b]);
      send.push_back(rank->gradients.data<float>() + bucket.begin);
      sums.push_back(several() ? rank->sums.data<float>() + bucket.slice_begin
                               : rank->gradients.data<float>() + bucket.begin);
    }
    if (several() && enqueued_.ok()) {
      enqueued_ = communicator_->ReduceScatter(copy_streams_, send, sums, bucket.slice);
    }
    if (encoder_ != nullptr) {
      SendEncoded(bucket);
    } else {
      for (size_t r = 0; r < ranks_.size(); ++r) {
        const int64_t begin = std::min(bucket.size, static_cast<int64_t>(r) * bucket.slice);
        const int64_t size = std::min(bucket.size - begin, bucket.slice);
        CopyToHost(*ranks_[r], sums[r], bucket.begin + begin, size);
      }
    }
    for (const auto& rank : ranks_) rank->copies->Record(*rank->copied[b]);
    sent_.push_back(b);
  }

  // Of one device: what has a codec is encoded, neighbours that have none travel together.
  void SendEncoded(const Bucket& bucket) {
    Rank& rank = *ranks_.front();
    const float* const gradients = rank.gradients.data<float>();
    int64_t begin = bucket.begin, end = begin;  // of such neighbours
    for (const ps::ParamId param : bucket.params) {
      const int64_t offset = table_.offset(param);
      if (!encoder_->Encodes(param)) {
        if (begin == end) begin = offset;
        end = offset + table_.specs()[static_cast<size_t>(param)].size();
        continue;
      }
      CopyToHost(rank, gradients + begin, begin, end - begin);
      begin = end;
      encoder_->Send(*rank.copies, lease_, param, gradients);
    }
    CopyToHost(rank, gradients + begin, begin, end - begin);
  }

  // Elements [begin, begin + size) of the lease's gradients.
  void CopyToHost(Rank& rank, const float* from, int64_t begin, int64_t size) {
    rank.device.ops().Copy(*rank.copies, host_.gradients[lease_].get() + begin, from,
                           static_cast<size_t>(size) * sizeof(float), CopyDirection::kDeviceToHost);
  }

  absl::Status Collect(const std::function<void(ps::ParamId)>& on_host) {
    const std::vector<size_t> sent = std::exchange(sent_, {});
    RETURN_IF_ERROR(enqueued_);
    CHECK_EQ(sent.size(), buckets_.size());
    for (const size_t b : sent) {
      RETURN_IF_ERROR(Await([b](Rank& rank) -> Event& { return *rank.copied[b]; }));
      const std::vector<ps::ParamId>& params = buckets_[b].params;
      std::for_each(params.rbegin(), params.rend(), on_host);
    }
    // What the streams could not enqueue would else be found out much later.
    for (const auto& rank : ranks_) {
      RETURN_IF_ERROR(rank->copies->Synchronize());
      RETURN_IF_ERROR(rank->compute.Synchronize());
    }
    return absl::OkStatus();
  }

  // Waits for an event of each device.
  template <class EventOf>
  absl::Status Await(const EventOf& event_of) {
    if (!several()) return event_of(*ranks_.front()).Synchronize();
    for (size_t done = 0; done < ranks_.size();) {
      done = 0;
      for (const auto& rank : ranks_) {
        if (!event_of(*rank).Done()) continue;
        RETURN_IF_ERROR(event_of(*rank).Synchronize());
        ++done;
      }
      RETURN_IF_ERROR(communicator_->status());
      std::this_thread::yield();
    }
    return absl::OkStatus();
  }

  // Devices that wait for one that has failed would keep this object from going.
  absl::Status LetGoUnless(absl::Status status) {
    if (!status.ok() && several()) communicator_->Abort();
    return status;
  }

  Communicator* const communicator_;
  const ps::ParamTable& table_;
  const int64_t size_;  // of an arena, in elements
  const int64_t ranks_count_;
  int64_t weight_slice_ = 0;
  const HostArenas host_;
  const std::unique_ptr<DeviceEncoder> encoder_;  // or null
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;  // by parameter
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<std::unique_ptr<Pinned>> pinned_;  // goes before the memory does
  std::vector<std::span<const float>> weights_;
  std::vector<std::span<float>> gradients_;
  std::vector<Stream*> compute_streams_, copy_streams_;

  size_t lease_ = 0;
  std::vector<size_t> complete_;  // by bucket: devices that have its gradients
  std::vector<size_t> sent_;      // buckets on their way, in their order
  absl::Status enqueued_;         // of the communicator's calls
};

}  // namespace

std::unique_ptr<Exchange> MakeDeviceExchange(std::span<Stream* const> streams,
                                             Communicator* communicator,
                                             const ps::ParamTable& table, HostArenas host,
                                             int64_t bucket_bytes,
                                             std::unique_ptr<DeviceEncoder> encoder) {
  return std::make_unique<DeviceExchange>(streams, communicator, table, std::move(host),
                                          bucket_bytes, std::move(encoder));
}

}  // namespace muster::worker
