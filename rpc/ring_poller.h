// RingPoller: the thread that reads the rings of a transport's streams, and sleeps while there is
// nothing in any of them.
//
// Thread-safe. Owns the thread, started with the first ring.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "rpc/ring.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

// What is polled; only the poller's thread calls it, between Add and Remove.
class Polled {
 public:
  virtual ~Polled() = default;
  // Does what there is to do, or a part of it; true when it did something.
  virtual bool Poll() = 0;
  // Tells the peer that we sleep now, and returns the bell that it will ring. What comes after the
  // bell's value was read changes it, except when FallAsleep returned an empty Bell: then there is
  // something to do already.
  virtual Bell FallAsleep() = 0;
  virtual void Awake() = 0;
};

class RingPoller {
 public:
  RingPoller() = default;
  ~RingPoller();
  // Ends the thread. REQUIRES: everything was removed; not called by Poll.
  void Stop();

  // Calls `polled` from now on. False when it has its hands full: this system cannot sleep on so
  // many bells.
  bool Add(std::shared_ptr<Polled> polled);
  // Returns when the last call is over; does nothing when it was not added. Not to be called within
  // its own Poll; within another's it does not wait, and calls may follow.
  void Remove(const Polled* polled);
  // Lets the thread look once more.
  void Wake();

 private:
  void Run();
  // Sleeps until something may be there.
  void Sleep(const std::vector<std::shared_ptr<Polled>>& polled);

  std::atomic<uint32_t> bell_ = 0;  // ours
  std::atomic<bool> asleep_ = false;
  std::atomic<bool> changed_ = false;  // polled_ or stopping_ did

  Mutex mu_;
  CondVar round_over_;
  std::vector<std::shared_ptr<Polled>> polled_ ABSL_GUARDED_BY(mu_);
  uint64_t round_ ABSL_GUARDED_BY(mu_) = 0;  // how often the thread has copied polled_
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::rpc
