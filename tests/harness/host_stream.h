// HostStream, HostEvent and HostGraph: a GPU's streams on the host, for tests.
//
// What CUDA does not allow while a stream captures, fails the capture: events, waiting, memory that
// is allocated or freed, copies from and to memory of the host that is not pinned. A graph that
// is launched although memory was given back since, ends the test.
//
// Queue is the work of one stream; Streams is what those of one GPU, or of GPUs that one process
// drives together, have in common. Work is done by the thread that asks for it, under
// Streams::mu. As Stream and Event say about threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/stream.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"
#include "tests/harness/host_gpu.h"

namespace muster::testing {

class HostStream;
class Queue;

struct Streams {
  explicit Streams(HostGpuPace pace) : Streams(HostGpuOptions{.pace = pace}) {}
  explicit Streams(const HostGpuOptions& o) : options(o), pace(o.pace) {}
  const HostGpuOptions options;
  const HostGpuPace pace;
  std::atomic<int64_t> frees{0};
  Mutex mu;
  std::vector<std::weak_ptr<Queue>> queues;  // of the streams that there were
  std::vector<const Device*> failed;
  std::map<std::thread::id, HostStream*> capturing;  // by the thread that began it
  std::map<const std::byte*, size_t> pinned;         // memory of the host
  int64_t captures = 0;                              // that ended

  // The calling thread's; null: none.
  HostStream* Capturing() {
    MutexLock lock(mu);
    const auto it = capturing.find(std::this_thread::get_id());
    return it == capturing.end() ? nullptr : it->second;
  }
  bool IsPinned(const void* memory, size_t bytes) {
    MutexLock lock(mu);
    const auto* const begin = static_cast<const std::byte*>(memory);
    const auto after = pinned.upper_bound(begin);
    if (after == pinned.begin()) return false;
    const auto& [at, size] = *std::prev(after);
    return begin + bytes <= at + size;
  }
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
    Refuse();
    MutexLock lock(streams_->mu);
    if (queue != nullptr && queue->done() < count) queue->RunUntil(queue->done() + 1);
    return queue == nullptr || queue->done() >= count;
  }
  absl::Status Synchronize() override {
    Refuse();
    MutexLock lock(streams_->mu);
    if (queue == nullptr) return absl::OkStatus();
    CHECK(queue->RunUntil(count) && "this would wait for ever");
    return queue->status();
  }

  // The point, under Streams::mu; null: nothing was recorded.
  std::shared_ptr<Queue> queue;
  int64_t count = 0;

 private:
  void Refuse() const;

  const std::shared_ptr<Streams> streams_;
};

class HostGraph final : public Graph {
 public:
  using Ops = std::vector<std::function<void()>>;

  HostGraph(std::shared_ptr<Streams> streams, Ops ops)
      : streams_(std::move(streams)), ops_(std::move(ops)), frees_(streams_->frees) {}
  void Launch(Stream& stream) override;

 private:
  const std::shared_ptr<Streams> streams_;
  const Ops ops_;
  const int64_t frees_;
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
    if (capturing_) return captured_.push_back(std::move(work));
    if (streams_->pace == HostGpuPace::kAtOnce) return work();
    MutexLock lock(streams_->mu);
    queue_->Add([work = std::move(work)] {
      work();
      return true;
    });
  }
  void Record(Event& event) override {
    auto& host = static_cast<HostEvent&>(event);
    if (capturing_) return Refuse("an event is recorded");
    MutexLock lock(streams_->mu);
    host.queue = queue_;
    host.count = queue_->told();
  }
  void Wait(const Event& event) override {
    const auto& host = static_cast<const HostEvent&>(event);
    if (capturing_) return Refuse("the stream waits for an event");
    MutexLock lock(streams_->mu);
    if (host.queue == nullptr) return;
    queue_->Add([queue = host.queue, count = host.count] { return queue->RunUntil(count); });
    if (streams_->pace == HostGpuPace::kAtOnce) queue_->RunUntil(queue_->told());
  }
  absl::Status Synchronize() override {
    if (capturing_) {
      Refuse("the host waits");
      return refused_;
    }
    MutexLock lock(streams_->mu);
    CHECK(queue_->RunUntil(queue_->told()) && "this would wait for ever");
    return queue_->status();
  }
  bool captures() const override { return streams_->options.graphs; }
  absl::Status BeginCapture() override {
    CHECK(captures());
    MutexLock lock(streams_->mu);
    CHECK(streams_->capturing.emplace(std::this_thread::get_id(), this).second);
    capturing_ = true;
    refused_ = absl::OkStatus();
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture() override {
    MutexLock lock(streams_->mu);
    CHECK_EQ(streams_->capturing.erase(std::this_thread::get_id()), 1u);
    capturing_ = false;
    HostGraph::Ops ops = std::exchange(captured_, {});
    if (streams_->options.captures != nullptr) ++*streams_->options.captures;
    if (streams_->captures++ == streams_->options.failing_capture) {
      return absl::InternalError("the test lets a capture fail");
    }
    RETURN_IF_ERROR(refused_);
    return std::make_unique<HostGraph>(streams_, std::move(ops));
  }
  // What is captured is no graph.
  void Refuse(const std::string& what) {
    if (refused_.ok()) refused_ = absl::InternalError(what + " while the stream captures");
  }
  bool capturing() const { return capturing_; }

  float* Scratch(int64_t n) {
    if (static_cast<int64_t>(scratch_.size()) < n) {
      if (capturing_) {
        Refuse("scratch memory grows");
        return scratch_.data();
      }
      (void)Synchronize();  // before it moves
      ++streams_->frees;
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
  bool capturing_ = false;
  HostGraph::Ops captured_;
  absl::Status refused_;
};

inline void HostEvent::Refuse() const {
  if (HostStream* const stream = streams_->Capturing()) stream->Refuse("the host asks an event");
}

inline void HostGraph::Launch(Stream& stream) {
  CHECK_EQ(streams_->frees.load(), frees_);
  auto& host = static_cast<HostStream&>(stream);
  CHECK(!host.capturing());
  for (const auto& op : ops_) host.Do(op);
  if (streams_->options.launches != nullptr) ++*streams_->options.launches;
}

}  // namespace muster::testing
