#include "worker/loader.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "telemetry/check.h"

namespace muster::worker {

Loader::Loader(std::unique_ptr<Feed> feed, Order order, Options options)
    : feed_(std::move(feed)),
      order_(std::move(order)),
      options_(options),
      slots_(std::max(1, options.depth) + 1) {
  for (Slot& slot : slots_) slot.memory = feed_->MakeSlot();
  for (int i = 0; i < std::max(1, options_.threads); ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

Loader::~Loader() {
  {
    MutexLock lock(mu_);
    stop_ = true;
    ++generation_;
    work_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void Loader::SetReplicas(std::vector<int32_t> replicas, int64_t step) {
  CHECK(!replicas.empty());
  MutexLock lock(mu_);
  replicas_ = std::move(replicas);
  Restart(step, replicas_.front());
}

absl::StatusOr<Batch> Loader::Next(int64_t step, int32_t replica) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(error_);
  if (std::find(replicas_.begin(), replicas_.end(), replica) == replicas_.end()) {
    replicas_.push_back(replica);
    Restart(step, replica);
  } else if (const Item expected = ItemAt(taken_);
             expected.step != step || expected.replica != replica) {
    Restart(step, replica);
  }
  Slot& slot = SlotOf(taken_);
  while (!slot.ready) {
    ready_.Wait(mu_);
  }
  Release();
  if (taken_ > 0) SlotOf(taken_ - 1).ready = false;
  ++taken_;
  work_.NotifyAll();
  if (!slot.status.ok()) {
    error_ = slot.status;
    return error_;
  }
  reading_ = slot.memory.get();
  return reading_->Receive();
}

void Loader::Release() {
  if (reading_ != nullptr) reading_->Release();
  reading_ = nullptr;
}

Loader::Item Loader::ItemAt(int64_t number) const {
  const int64_t at = first_replica_ + number;
  const int64_t count = static_cast<int64_t>(replicas_.size());
  return {first_step_ + at / count, replicas_[at % count]};
}

void Loader::Restart(int64_t step, int32_t replica) {
  ++generation_;
  claimed_ = std::numeric_limits<int64_t>::max();  // nobody starts while we wait
  while (busy_ > 0) {
    ready_.Wait(mu_);
  }
  Release();
  for (Slot& slot : slots_) {
    slot.ready = false;
  }
  first_step_ = step;
  first_replica_ = std::find(replicas_.begin(), replicas_.end(), replica) - replicas_.begin();
  claimed_ = 0;
  taken_ = 0;
  work_.NotifyAll();
}

void Loader::Run() {
  MutexLock lock(mu_);
  while (true) {
    const int64_t ahead = static_cast<int64_t>(slots_.size()) - 1;
    while (!stop_ && (replicas_.empty() || claimed_ >= taken_ + ahead)) {
      work_.Wait(mu_);
    }
    if (stop_) {
      return;
    }
    const int64_t number = claimed_++;
    const Item item = ItemAt(number);
    const int64_t generation = generation_;
    Slot& slot = SlotOf(number);
    ++busy_;
    mu_.Unlock();
    Make(item, generation, slot);
    mu_.Lock();
    --busy_;
    slot.ready = generation == generation_;
    ready_.NotifyAll();
  }
}

void Loader::Make(Item item, int64_t generation, Slot& slot) {
  const std::vector<Pick> picks = order_(item.step, item.replica);
  slot.status = slot.memory->Begin();
  for (size_t i = 0; i < picks.size() && slot.status.ok(); ++i) {
    if (generation_.load(std::memory_order_relaxed) != generation) {
      return;
    }
    slot.status = slot.memory->Set(static_cast<int64_t>(i), picks[i]);
  }
  if (slot.status.ok()) slot.memory->Send(static_cast<int64_t>(picks.size()));
}

}  // namespace muster::worker
