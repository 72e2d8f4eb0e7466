// Replays: work that a model's stream is told again and again with the same arguments, captured in
// a graph (kernels/stream.h): launched from then on, which is one call in the place of one for each
// op.
//
// The first kPlainRuns times that a key is seen its work is done plainly, so that libraries choose
// their algorithms and scratch memory grows. A graph keeps the addresses of its time: when memory
// of the device was given back since, all graphs are forgotten. What cannot be captured once is
// done plainly for good.
//
// Owned and used by one thread, the stream's. Borrows the stream.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "kernels/device.h"
#include "kernels/stream.h"
#include "telemetry/status.h"

namespace muster::worker {

class Replays {
 public:
  static constexpr int kPlainRuns = 2;
  static constexpr size_t kMostKeys = 512;  // more, and all are forgotten

  // What the arguments of a work's ops are a function of.
  struct Key {
    size_t part = 0;                                    // which work
    int64_t samples = 0, first_sample = 0, of_all = 0;  // of the batch
    const float *weights = nullptr, *gradients = nullptr;
    uint64_t seed = 0;
    int32_t replica = 0;
    auto operator<=>(const Key&) const = default;
  };

  // PRECONDITION: stream.captures().
  explicit Replays(Stream& stream) : stream_(stream) {}

  // Enqueues `work`. It enqueues the same ops for the same key, on this stream alone, and only what
  // they read from the device's memory differs; it may be called twice, or not at all.
  void Run(const Key& key, const std::function<void()>& work);
  // Why work is done plainly for good; else OK.
  const absl::Status& status() const { return status_; }

 private:
  struct Known {
    int plain_runs = 0;
    std::unique_ptr<Graph> graph;  // null: not yet
  };

  absl::StatusOr<std::unique_ptr<Graph>> Capture(const std::function<void()>& work);

  Stream& stream_;
  std::map<Key, Known> known_;
  int64_t frees_ = 0;  // Device::frees of known_
  absl::Status status_;
};

}  // namespace muster::worker
