#include "worker/feed.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/device_ops.h"
#include "kernels/pinned.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"

namespace muster::worker {
namespace {

constexpr size_t kPage = 4096;  // what pinned memory consists of
constexpr size_t kAlign = 256;  // of what lies in one block of a device's memory

constexpr size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

class HostFeed final : public Feed {
 public:
  HostFeed(std::shared_ptr<const Dataset> dataset, int64_t max_batch)
      : dataset_(std::move(dataset)), max_batch_(static_cast<size_t>(max_batch)) {}

  std::unique_ptr<Slot> MakeSlot() override {
    return std::make_unique<HostSlot>(*dataset_, max_batch_);
  }

 private:
  class HostSlot final : public Slot {
   public:
    HostSlot(const Dataset& dataset, size_t max_batch)
        : dataset_(dataset),
          width_(static_cast<size_t>(dataset.input_size())),
          inputs_(max_batch * width_),
          labels_(max_batch) {}

    absl::Status Begin() override { return absl::OkStatus(); }
    absl::Status Set(int64_t i, const Pick& pick) override {
      const auto at = static_cast<size_t>(i);
      return dataset_.Get(pick.index, pick.draw, std::span(inputs_).subspan(at * width_, width_),
                          &labels_[at]);
    }
    void Send(int64_t n) override { size_ = n; }
    Batch Receive() override {
      return {std::span<const float>(inputs_).first(static_cast<size_t>(size_) * width_), labels(),
              size_};
    }
    void Release() override {}
    std::span<const int32_t> labels() const override {
      return std::span<const int32_t>(labels_).first(static_cast<size_t>(size_));
    }

   private:
    const Dataset& dataset_;
    const size_t width_;
    std::vector<float> inputs_;    // [max_batch, width_]
    std::vector<int32_t> labels_;  // [max_batch]
    int64_t size_ = 0;
  };

  const std::shared_ptr<const Dataset> dataset_;
  const size_t max_batch_;
};

// A batch travels as one block: its labels, then its samples' records; without a front end a record
// is the sample's input.
class DeviceFeed final : public Feed {
 public:
  DeviceFeed(std::shared_ptr<const Dataset> dataset, std::unique_ptr<DeviceFrontEnd> front_end,
             int64_t max_batch, Stream& compute)
      : dataset_(std::move(dataset)),
        front_end_(std::move(front_end)),
        input_size_(static_cast<size_t>(dataset_->input_size())),
        record_bytes_(front_end_ != nullptr ? static_cast<size_t>(front_end_->record_bytes())
                                            : input_size_ * sizeof(float)),
        max_batch_(static_cast<size_t>(max_batch)),
        records_at_(RoundUp(max_batch_ * sizeof(int32_t), kAlign)),
        compute_(compute),
        device_(compute.device()),
        stream_(device_.MakeStream()) {}

  std::unique_ptr<Slot> MakeSlot() override { return std::make_unique<DeviceSlot>(*this); }

 private:
  class DeviceSlot final : public Slot {
   public:
    explicit DeviceSlot(DeviceFeed& feed)
        : feed_(feed),
          bytes_(RoundUp(feed.records_at_ + feed.max_batch_ * feed.record_bytes_, kPage)),
          host_(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes_))),
          pinned_(feed.device_, host_.get(), bytes_),
          block_(feed.device_, bytes_),
          sent_(feed.device_.MakeEvent()),
          released_(feed.device_.MakeEvent()) {
      CHECK(host_ != nullptr);
      if (feed.front_end_ != nullptr) {
        inputs_ = Buffer(feed.device_, feed.max_batch_ * feed.input_size_ * sizeof(float));
      }
    }
    ~DeviceSlot() override {
      // Nothing is copied or read any more when the memory goes.
      (void)feed_.Synchronize();
      (void)feed_.compute_.Synchronize();
    }

    absl::Status Begin() override { return feed_.Synchronize(); }
    absl::Status Set(int64_t i, const Pick& pick) override {
      const auto at = static_cast<size_t>(i);
      std::byte* const record = host_.get() + feed_.records_at_ + at * feed_.record_bytes_;
      if (feed_.front_end_ != nullptr) {
        return feed_.front_end_->GetRecord(pick.index, pick.draw, {record, feed_.record_bytes_},
                                           host_labels() + at);
      }
      return feed_.dataset_->Get(pick.index, pick.draw,
                                 {reinterpret_cast<float*>(record), feed_.input_size_},
                                 host_labels() + at);
    }
    void Send(int64_t n) override {
      size_ = n;
      if (n > 0)
        feed_.Send(n, host_.get(), block_.data<std::byte>(), inputs_.data(), *released_, *sent_);
    }
    Batch Receive() override {
      feed_.compute_.Wait(*sent_);
      const auto size = static_cast<size_t>(size_);
      const float* const inputs =
          feed_.front_end_ != nullptr
              ? inputs_.data()
              : reinterpret_cast<const float*>(block_.data<std::byte>() + feed_.records_at_);
      return {{inputs, size * feed_.input_size_}, {block_.data<int32_t>(), size}, size_};
    }
    void Release() override { feed_.compute_.Record(*released_); }
    std::span<const int32_t> labels() const override {
      return {host_labels(), static_cast<size_t>(size_)};
    }

   private:
    struct FreeMemory {
      void operator()(std::byte* memory) const { std::free(memory); }
    };
    int32_t* host_labels() const { return reinterpret_cast<int32_t*>(host_.get()); }

    DeviceFeed& feed_;
    const size_t bytes_;
    const std::unique_ptr<std::byte[], FreeMemory> host_;
    const Pinned pinned_;
    const Buffer block_;
    Buffer inputs_;  // what a front end makes
    const std::unique_ptr<Event> sent_, released_;
    int64_t size_ = 0;
  };

  // The whole stream and not an event: only so an operation that could not be enqueued is told.
  absl::Status Synchronize() {
    MutexLock lock(mu_);
    return stream_->Synchronize();
  }

  void Send(int64_t n, const std::byte* from, std::byte* to, float* inputs, const Event& released,
            Event& sent) {
    MutexLock lock(mu_);
    stream_->Wait(released);
    device_.ops().Copy(*stream_, to, from, records_at_ + static_cast<size_t>(n) * record_bytes_,
                       CopyDirection::kHostToDevice);
    if (front_end_ != nullptr) front_end_->Compute(*stream_, n, to + records_at_, inputs);
    stream_->Record(sent);
  }

  const std::shared_ptr<const Dataset> dataset_;
  const std::unique_ptr<DeviceFrontEnd> front_end_;  // may be null
  const size_t input_size_;                          // elements
  const size_t record_bytes_;
  const size_t max_batch_;
  const size_t records_at_;  // in a batch's block
  Stream& compute_;          // the model's
  Device& device_;
  Mutex mu_;
  const std::unique_ptr<Stream> stream_ ABSL_PT_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Feed>> MakeFeed(std::shared_ptr<const Dataset> dataset,
                                               int64_t max_batch, Stream* compute) {
  CHECK_GE(max_batch, 1);
  if (compute == nullptr || compute->device().host_memory()) {
    return std::make_unique<HostFeed>(std::move(dataset), max_batch);
  }
  ASSIGN_OR_RETURN(auto front_end, dataset->MakeDeviceFrontEnd(compute->device(), max_batch));
  return std::make_unique<DeviceFeed>(std::move(dataset), std::move(front_end), max_batch,
                                      *compute);
}

}  // namespace muster::worker
