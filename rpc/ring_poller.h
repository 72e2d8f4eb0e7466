// RingPoller: who reads the rings of a transport's streams, and sleeps while there is nothing in
// any of them: a thread of its own, or one that waits for messages and does that work meanwhile
// (Help), which saves the way from thread to thread. Before it sleeps it looks again for up to 50
// µs, where a core has nothing else to do.
//
// Thread-safe. Owns the thread, started with the first ring.
#pragma once

#include <absl/functional/function_ref.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "rpc/idle_cores.h"
#include "rpc/ring.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

// What is polled; one thread at a time calls it, between Add and Remove.
class Polled {
 public:
  virtual ~Polled() = default;
  // Does what there is to do, or a part of it; true when it did something.
  virtual bool Poll() = 0;
  // The bell that the peer rings for sleepers, and its value now.
  virtual Bell bell() = 0;
  // Tells the peer that we sleep now: what comes from here on changes the bell. False when there is
  // something to do already.
  virtual bool FallAsleep() = 0;
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
  // Lets whoever polls look once more, and Help ask `done` again.
  void Wake();

  // Polls in this thread until `done`, which is called within, or `deadline`. False at once when
  // there is nothing to poll, or another thread helps already.
  bool Help(absl::FunctionRef<bool()> done, std::chrono::steady_clock::time_point deadline);

 private:
  using Clock = std::chrono::steady_clock;

  // What one thread sleeps on.
  struct Nap {
    std::vector<std::shared_ptr<Polled>> polled;  // keeps the bells
    std::vector<Bell> bells;
  };

  void Run();
  // Leaves the rings to the helper: a moment, or `for_long` until our bell rings. Only for a helper
  // that stays is it for long: leaving it then costs a wake-up.
  void Park(uint32_t bell, bool for_long);
  // Polls everything once; true when somebody did something.
  bool Round() ABSL_EXCLUSIVE_LOCKS_REQUIRED(drive_);
  // Whether to look again rather than sleep, after a round that found nothing.
  bool Spins(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(drive_);
  // Takes over changes of polled_; true when the thread is to end.
  bool Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(drive_);
  // `bell`: our own's value before we looked.
  Nap MakeNap(uint32_t bell) ABSL_EXCLUSIVE_LOCKS_REQUIRED(drive_);
  // Tells the peers; false when somebody has something to do.
  bool FallAsleep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(drive_);
  void Awake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(drive_);
  void Sleep(const Nap& nap, Clock::time_point deadline);

  std::atomic<uint32_t> bell_ = 0;  // ours
  std::atomic<int> sleepers_ = 0;
  std::atomic<bool> changed_ = false;  // polled_ or stopping_ did
  // While a helper polls, the thread only sleeps. Whoever polls is also who is asleep for the
  // peers.
  std::atomic<bool> helped_ = false;
  std::atomic<uint32_t> helps_ = 0;            // calls of Help that polled
  std::atomic<bool> parked_for_long_ = false;  // the thread waits to be told that the helper left
  std::atomic<std::thread::id> driver_;        // who holds drive_

  Mutex drive_;  // held while polling, not while asleep
  std::vector<std::shared_ptr<Polled>> driven_ ABSL_GUARDED_BY(drive_);  // polled_, as last seen
  bool told_ ABSL_GUARDED_BY(drive_) = false;          // the peers, that somebody sleeps
  bool helper_comes_ ABSL_GUARDED_BY(drive_) = false;  // who waits spins: the thread need not
  Clock::time_point spin_until_ ABSL_GUARDED_BY(drive_);
  IdleCores idle_cores_ ABSL_GUARDED_BY(drive_);

  Mutex mu_ ABSL_ACQUIRED_AFTER(drive_);
  CondVar round_over_;
  std::vector<std::shared_ptr<Polled>> polled_ ABSL_GUARDED_BY(mu_);
  uint64_t round_ ABSL_GUARDED_BY(mu_) = 0;  // how often polled_ was taken over
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::rpc
