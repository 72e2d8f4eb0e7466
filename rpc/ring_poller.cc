#include "rpc/ring_poller.h"

#include <algorithm>
#include <utility>

#include "telemetry/check.h"

namespace muster::rpc {
namespace {

constexpr std::chrono::microseconds kSpin(50);
// So long nobody may listen after a helper left: it is likely to come back soon.
constexpr std::chrono::milliseconds kPark(1);

}  // namespace

RingPoller::~RingPoller() { Stop(); }

void RingPoller::Stop() {
  std::thread thread;
  {
    MutexLock lock(mu_);
    CHECK(polled_.empty());
    stopping_ = true;
    thread = std::move(thread_);
  }
  changed_ = true;
  Wake();
  if (thread.joinable()) thread.join();
}

bool RingPoller::Add(std::shared_ptr<Polled> polled) {
  {
    MutexLock lock(mu_);
    if (polled_.size() + 1 >= kMostBells || !CanAwaitBells()) return false;
    polled_.push_back(std::move(polled));
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  }
  changed_ = true;
  Wake();
  return true;
}

void RingPoller::Remove(const Polled* polled) {
  std::shared_ptr<Polled> removed;  // destroyed without the lock
  uint64_t round = 0;
  {
    MutexLock lock(mu_);
    const auto found = std::ranges::find(polled_, polled, &std::shared_ptr<Polled>::get);
    if (found == polled_.end()) return;
    removed = std::move(*found);
    polled_.erase(found);
    round = round_;
  }
  changed_ = true;
  if (driver_ == std::this_thread::get_id()) return;
  Wake();
  MutexLock lock(mu_);
  while (round_ == round) round_over_.Wait(mu_);
}

void RingPoller::Wake() {
  if (driver_ == std::this_thread::get_id()) return;  // looks anyway after this round
  bell_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) WakeSleepers(bell_);
}

void RingPoller::Run() {
  uint32_t parked_for = 0;  // the help that we have just left the rings to
  for (;;) {
    Nap nap;
    bool park = false, sleep = false;
    const uint32_t bell = bell_.load(std::memory_order_seq_cst);
    {
      MutexLock drive(drive_);
      driver_ = std::this_thread::get_id();
      const bool stop = Refresh();
      park = helped_.load(std::memory_order_seq_cst);
      if (!stop && !park) {
        Awake();
        if (!Round() && (helper_comes_ || !Spins(Clock::now()))) {
          nap = MakeNap(bell);
          sleep = FallAsleep();
        }
      }
      driver_ = std::thread::id();
      if (stop) return;
    }
    if (sleep) Sleep(nap, Clock::time_point::max());
    if (park) {
      const uint32_t help = helps_.load(std::memory_order_relaxed);
      Park(bell, /*for_long=*/std::exchange(parked_for, help) == help);
    }
  }
}

void RingPoller::Park(uint32_t bell, bool for_long) {
  parked_for_long_.store(for_long, std::memory_order_seq_cst);
  if (helped_.load(std::memory_order_seq_cst)) {
    Sleep({{}, {{&bell_, bell}}}, for_long ? Clock::time_point::max() : Clock::now() + kPark);
  }
  parked_for_long_.store(false, std::memory_order_relaxed);
}

bool RingPoller::Help(absl::FunctionRef<bool()> done, Clock::time_point deadline) {
  {
    MutexLock lock(mu_);
    if (polled_.empty() || helped_) return false;
    helps_.fetch_add(1, std::memory_order_relaxed);
    helped_.store(true, std::memory_order_seq_cst);
  }
  bool first = true;
  for (bool over = false; !over;) {
    Nap nap;
    bool sleep = false;
    {
      MutexLock drive(drive_);
      driver_ = std::this_thread::get_id();
      Awake();
      if (std::exchange(first, false)) spin_until_ = Clock::time_point::max();
      helper_comes_ = true;
      const uint32_t bell = bell_.load(std::memory_order_seq_cst);
      const bool stop = Refresh();
      bool busy = Round();
      over = stop || done();
      if (!over && !busy) {
        const auto now = Clock::now();
        over = now >= deadline;
        if (!over && !Spins(now)) {
          nap = MakeNap(bell);
          sleep = FallAsleep();
        }
      }
      if (over) {
        // From here on the peers ring for the thread, which sleeps, or looks within kPark.
        helped_.store(false, std::memory_order_seq_cst);
        busy = !FallAsleep() || parked_for_long_.load(std::memory_order_seq_cst);
      }
      driver_ = std::thread::id();
      if (over && busy) Wake();
    }
    if (sleep) Sleep(nap, deadline);
  }
  return true;
}

bool RingPoller::Round() {
  bool busy = false;
  for (const auto& each : driven_) busy |= each->Poll();
  if (busy) spin_until_ = Clock::time_point::max();  // from the first round that finds nothing
  return busy;
}

bool RingPoller::Spins(Clock::time_point now) {
  if (spin_until_ == Clock::time_point::max()) {
    spin_until_ = idle_cores_.Any(now) ? now + kSpin : now;
  }
  return now < spin_until_;
}

bool RingPoller::Refresh() {
  if (!changed_.exchange(false)) return false;
  MutexLock lock(mu_);
  driven_ = polled_;
  ++round_;
  round_over_.NotifyAll();
  return stopping_;
}

RingPoller::Nap RingPoller::MakeNap(uint32_t bell) {
  Nap nap = {driven_, {{&bell_, bell}}};
  for (const auto& each : driven_) nap.bells.push_back(each->bell());
  return nap;
}

bool RingPoller::FallAsleep() {
  told_ = true;
  bool nothing = !changed_.load(std::memory_order_seq_cst);
  for (const auto& each : driven_) nothing &= each->FallAsleep();
  return nothing;
}

void RingPoller::Awake() {
  if (!std::exchange(told_, false)) return;
  for (const auto& each : driven_) each->Awake();
}

void RingPoller::Sleep(const Nap& nap, Clock::time_point deadline) {
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  AwaitBells(nap.bells, deadline);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace muster::rpc
