#include "ps/quorum.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::ps {

void Quorum::Begin(int64_t step) {
  MutexLock lock(mu_);
  next_ = step;
  newest_ = {step - 1, ReplicaSet(arrived_.size(), false)};
}

absl::StatusOr<Quorum::Told> Quorum::OnArrived(ReplicaId v, int64_t step,
                                               std::shared_ptr<Peer> peer) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckNotAhead(step));
  Told told;
  if (step < next_) {
    told.peers.push_back(std::move(peer));
    told.newest = newest_;
    return told;
  }
  arrived_[static_cast<size_t>(v)] = true;
  if (std::ranges::find(peers_, peer) == peers_.end()) peers_.push_back(std::move(peer));
  if (std::ranges::count(arrived_, true) < counted_) return told;
  newest_ = {next_++, std::exchange(arrived_, ReplicaSet(arrived_.size(), false))};
  told.peers = std::exchange(peers_, {});
  told.newest = newest_;
  told.now = true;
  return told;
}

absl::StatusOr<bool> Quorum::OnDecision(const Decision& decision) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckNotAhead(decision.step));
  if (decision.step < next_) return false;
  ++next_;
  newest_ = decision;
  return true;
}

absl::Status Quorum::CheckNotAhead(int64_t step) const {
  if (step <= next_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("step {} is beyond step {}, which is to be decided first", step, next_));
}

}  // namespace muster::ps
