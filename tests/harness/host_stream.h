// HostStream and HostEvent: a GPU's streams on the host, for tests.
//
// Queue is the work of one stream; Streams is what those of one GPU, or of GPUs that one process
// drives together, have in common. Work is done by the thread that asks for it, under
// Streams::mu. As Stream and Event say about threads.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/stream.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"
#include "tests/harness/host_gpu.h"

namespace muster::testing {

class Queue;

struct Streams {
  explicit Streams(HostGpuPace p) : pace(p) {}
  const HostGpuPace pace;
  Mutex mu;
  std::vector<std::weak_ptr<Queue>> queues;  // of the streams that there were
  std::vector<const Device*> failed;

  absl::Status StatusOf(const Device& device) const {
    if (std::find(failed.begin(), failed.end(), &device) == failed.end()) return absl::OkStatus();
    return absl::InternalError("the test lets a GPU fail");
  }
};

// False: it cannot be done now, and perhaps never.
using Work = std::function<bool()>;

// The work of one stream, in its order. Its functions are called with Streams::mu held.
class Queue {
 public:
  Queue(Streams& streams, const Device& device) : streams_(streams), device_(device) {}
  void Add(Work work) { waiting_.push_back(std::move(work)); }
  // Work that was ever added.
  int64_t told() const { return done_ + static_cast<int64_t>(waiting_.size()); }
  int64_t done() const { return done_; }
  absl::Status status() const { return streams_.StatusOf(device_); }
  // Does the first `count` of it; false when some cannot be done. Work that waits for another
  // stream does that one's first. What is told to a GPU that has failed is not done at all.
  bool RunUntil(int64_t count) {
    while (done_ < count) {
      if (status().ok() && !waiting_.front()()) return false;
      waiting_.pop_front();
      ++done_;
    }
    return true;
  }

 private:
  Streams& streams_;
  const Device& device_;
  std::deque<Work> waiting_;
  int64_t done_ = 0;
};

class HostEvent final : public Event {
 public:
  explicit HostEvent(std::shared_ptr<Streams> streams) : streams_(std::move(streams)) {}
  // A GPU works while the host looks at it.
  bool Done() const override {
    MutexLock lock(streams_->mu);
    if (queue != nullptr && queue->done() < count) queue->RunUntil(queue->done() + 1);
    return queue == nullptr || queue->done() >= count;
  }
  absl::Status Synchronize() override {
    MutexLock lock(streams_->mu);
    if (queue == nullptr) return absl::OkStatus();
    CHECK(queue->RunUntil(count) && "this would wait for ever");
    return queue->status();
  }

  // The point, under Streams::mu; null: nothing was recorded.
  std::shared_ptr<Queue> queue;
  int64_t count = 0;

 private:
  const std::shared_ptr<Streams> streams_;
};

class HostStream final : public Stream {
 public:
  HostStream(Device& device, std::shared_ptr<Streams> streams)
      : Stream(device),
        streams_(std::move(streams)),
        queue_(std::make_shared<Queue>(*streams_, device)) {
    MutexLock lock(streams_->mu);
    streams_->queues.push_back(queue_);
  }
  ~HostStream() override { (void)Synchronize(); }

  void Do(std::function<void()> work) {
    if (streams_->pace == HostGpuPace::kAtOnce) return work();
    MutexLock lock(streams_->mu);
    queue_->Add([work = std::move(work)] {
      work();
      return true;
    });
  }
  void Record(Event& event) override {
    auto& host = static_cast<HostEvent&>(event);
    MutexLock lock(streams_->mu);
    host.queue = queue_;
    host.count = queue_->told();
  }
  void Wait(const Event& event) override {
    const auto& host = static_cast<const HostEvent&>(event);
    MutexLock lock(streams_->mu);
    if (host.queue == nullptr) return;
    queue_->Add([queue = host.queue, count = host.count] { return queue->RunUntil(count); });
    if (streams_->pace == HostGpuPace::kAtOnce) queue_->RunUntil(queue_->told());
  }
  absl::Status Synchronize() override {
    MutexLock lock(streams_->mu);
    CHECK(queue_->RunUntil(queue_->told()) && "this would wait for ever");
    return queue_->status();
  }

  float* Scratch(int64_t n) {
    if (static_cast<int64_t>(scratch_.size()) < n) {
      (void)Synchronize();  // before it moves
      scratch_.resize(static_cast<size_t>(n));
    }
    return scratch_.data();
  }
  Streams& streams() { return *streams_; }
  const std::shared_ptr<Queue>& queue() { return queue_; }

 private:
  const std::shared_ptr<Streams> streams_;
  const std::shared_ptr<Queue> queue_;
  std::vector<float> scratch_;
};

}  // namespace muster::testing
