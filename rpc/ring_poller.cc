#include "rpc/ring_poller.h"

#include <algorithm>
#include <utility>

#include "telemetry/check.h"

namespace muster::rpc {

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
    if (thread_.get_id() == std::this_thread::get_id()) {
      changed_ = true;
      return;
    }
  }
  changed_ = true;
  Wake();
  MutexLock lock(mu_);
  while (round_ == round) round_over_.Wait(mu_);
}

void RingPoller::Wake() {
  bell_.fetch_add(1, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst)) WakeSleepers(bell_);
}

void RingPoller::Run() {
  std::vector<std::shared_ptr<Polled>> polled;
  while (true) {
    if (changed_.exchange(false)) {
      polled.clear();
      MutexLock lock(mu_);
      if (stopping_) return;
      polled = polled_;
      ++round_;
      round_over_.NotifyAll();
    }
    bool busy = false;
    for (const auto& each : polled) busy |= each->Poll();
    if (!busy) Sleep(polled);
  }
}

void RingPoller::Sleep(const std::vector<std::shared_ptr<Polled>>& polled) {
  std::vector<Bell> bells = {{&bell_, bell_.load(std::memory_order_seq_cst)}};
  asleep_.store(true, std::memory_order_seq_cst);
  bool something = changed_.load(std::memory_order_seq_cst);
  for (const auto& each : polled) {
    bells.push_back(each->FallAsleep());
    something |= bells.back().word == nullptr;
  }
  if (!something) AwaitBells(bells);
  asleep_.store(false, std::memory_order_relaxed);
  for (const auto& each : polled) each->Awake();
}

}  // namespace muster::rpc
