#include "master/lease_moves.h"

#include <algorithm>

#include "telemetry/check.h"

namespace muster::master {

LeaseMoves::LeaseMoves(int replicas, int trainers)
    : homes_(AssignLeases(replicas, trainers)),
      trainers_(trainers),
      planned_(trainers),
      holder_(replicas, -1) {}

bool LeaseMoves::settled() const {
  size_t computed = 0;
  for (const Trainer& t : trainers_) {
    if (t.state == State::kTraining) computed += t.leases.size();
  }
  return computed == holder_.size();
}

bool LeaseMoves::CanSpare(int trainer) const {
  for (size_t t = 0; t < trainers_.size(); ++t) {
    if (static_cast<int>(t) != trainer && there(trainers_[t])) return true;
  }
  return false;
}

void LeaseMoves::Join(int trainer) {
  CHECK(trainers_[trainer].state == State::kAway);
  trainers_[trainer].state = State::kIdle;
  Plan();
}

void LeaseMoves::Leave(int trainer) {
  CHECK(CanSpare(trainer));
  trainers_[trainer].leaving = true;
  Plan();
}

void LeaseMoves::Lose(int trainer) {
  CHECK(CanSpare(trainer));
  trainers_[trainer] = {};
  Plan();
}

void LeaseMoves::BeginAnew(int trainer) {
  Trainer& t = trainers_[trainer];
  t.anew = t.state == State::kTraining;
}

void LeaseMoves::OnPaused(int trainer) {
  Trainer& t = trainers_[trainer];
  if (t.state != State::kPausing) return;
  t.state = State::kIdle;
  t.leases.clear();
}

void LeaseMoves::Plan() {
  std::vector<bool> there;
  for (const Trainer& t : trainers_) there.push_back(this->there(t));
  planned_ = ShareLeases(homes_, there);
}

LeaseMoves::Actions LeaseMoves::Take() {
  Actions actions;
  bool pausing = false;
  for (size_t i = 0; i < trainers_.size(); ++i) {
    Trainer& t = trainers_[i];
    if (t.state == State::kTraining && (t.leaving || t.anew || t.leases != planned_[i])) {
      t.state = State::kPausing;
      t.anew = false;
      actions.pause.push_back(static_cast<int>(i));
    }
    pausing |= t.state == State::kPausing;
  }
  if (pausing) return actions;
  for (size_t i = 0; i < trainers_.size(); ++i) {
    Trainer& t = trainers_[i];
    if (t.state != State::kIdle) continue;
    if (t.leaving) {
      t = {};
      actions.let_go.push_back(static_cast<int>(i));
      continue;
    }
    t.state = State::kTraining;
    t.leases = planned_[i];
    actions.begin.push_back(static_cast<int>(i));
    for (const int32_t replica : t.leases) {
      int& holder = holder_[replica];
      if (holder >= 0 && holder != static_cast<int>(i)) ++moves_;
      holder = static_cast<int>(i);
    }
  }
  return actions;
}

}  // namespace muster::master
