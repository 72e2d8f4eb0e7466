// Loader: makes the batches of coming items ahead of time, in a few threads of its own.
//
// Owned and called by one thread, the model's. What a batch holds depends on its item alone, never
// on the timing of the threads. Owns its feed and depth + 1 batches of memory: `depth` made ahead
// and the one that the model reads.
//
// Items follow one another as a trainer works through them: replica by replica in the order of
// SetReplicas, then the next step. Who asks for another item than the expected one gets it too, and
// the loader goes on from there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "telemetry/mutex.h"
#include "telemetry/status.h"
#include "worker/feed.h"
#include "worker/model.h"
#include "worker/shuffle.h"

namespace muster::worker {

class Loader {
 public:
  struct Options {
    int threads = 1;
    int depth = 2;  // batches made ahead
  };

  // PRECONDITION: no item of the order has more samples than the feed's batches.
  Loader(std::unique_ptr<Feed> feed, Order order, Options options);
  // Stops the threads after the sample that they are at.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The replicas that this process works for, and the step at which it goes on: starts to make
  // batches from the first of them. Batches of before are dropped. PRECONDITION: not empty.
  void SetReplicas(std::vector<int32_t> replicas, int64_t step);

  // The batch of (step, replica), waiting for it if need be; for what the model's stream does until
  // the next call. Fails with what the data set or the device said; from then on every call fails
  // with it.
  absl::StatusOr<Batch> Next(int64_t step, int32_t replica);
  // The labels of that batch, on the host.
  std::span<const int32_t> labels() const { return reading_->labels(); }

 private:
  struct Item {
    int64_t step;
    int32_t replica;
  };
  struct Slot {
    std::unique_ptr<Feed::Slot> memory;
    bool ready = false;
    absl::Status status;
  };

  void Run();
  // Fills `slot`, which the caller alone holds; gives up when `generation` has passed.
  void Make(Item item, int64_t generation, Slot& slot);
  Item ItemAt(int64_t number) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Slot& SlotOf(int64_t number) { return slots_[number % static_cast<int64_t>(slots_.size())]; }
  void Restart(int64_t step, int32_t replica) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The caller has done with the batch that it has, if any.
  void Release();

  const std::unique_ptr<Feed> feed_;
  const Order order_;
  const Options options_;
  std::atomic<int64_t> generation_{0};  // changes when what is being made is no longer wanted

  Mutex mu_;
  CondVar work_;   // there is a slot to fill, or the end
  CondVar ready_;  // a slot was filled, or a thread gave up
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
  std::vector<int32_t> replicas_ ABSL_GUARDED_BY(mu_);
  // Items are numbered from the last restart: item 0 is replicas_[first_replica_] at first_step_.
  int64_t first_step_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t first_replica_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t claimed_ ABSL_GUARDED_BY(mu_) = 0;  // items that a thread has taken on
  int64_t taken_ ABSL_GUARDED_BY(mu_) = 0;    // items that the caller has got
  int busy_ ABSL_GUARDED_BY(mu_) = 0;         // threads inside Make
  // A slot belongs to the thread that claimed its item until `ready`, then to the caller, until it
  // takes the item after it.
  std::vector<Slot> slots_;
  Feed::Slot* reading_ = nullptr;  // what the caller has
  std::vector<std::thread> threads_;
};

}  // namespace muster::worker
