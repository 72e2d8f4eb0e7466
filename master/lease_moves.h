// LeaseMoves: who computes which replicas while trainers come and go, and in which order they hear
// of it.
//
//   somebody comes, wants to leave, or is lost
//     → who is to compute other replicas than it does is told to pause
//     → once all of these have paused, each begins anew with its leases, and who wanted to leave is
//       let go
//
// One that cannot go on as it is, although it is there, pauses and begins anew as well.
//
// The others train on, and wait for the replicas that are between two trainers as they would for
// slow ones. Who begins anew goes on with the steps that the servers have not counted whole; what
// it pushes again is only answered (ps/client.h).
//
// No replica has two trainers at once, except when a lost one is still alive somewhere: then both
// push the same (under BSP, to the bit), and whatever comes second is only answered. Nor does
// that one read torn weights for others (invariant 1 of ps/slice.h): version n is overwritten once
// all replicas have pushed step n + 1, so its replica's step n was counted everywhere before.
//
// A pure state machine; owned by one thread (the coordinator's). Trainers are numbered from 0.
#pragma once

#include <cstdint>
#include <vector>

#include "master/leases.h"

namespace muster::master {

class LeaseMoves {
 public:
  // What is to be done now.
  struct Actions {
    std::vector<int> pause;
    std::vector<int> begin;  // with leases(trainer)
    std::vector<int> let_go;
  };

  // Nobody is there yet. PRECONDITION: as AssignLeases.
  LeaseMoves(int replicas, int trainers);

  // What the trainer computes when all are there.
  const Leases& home(int trainer) const { return homes_[trainer]; }
  // What it computes now; nothing while it pauses for others.
  const Leases& leases(int trainer) const { return trainers_[trainer].leases; }
  // What it is to compute. PRECONDITION: somebody is there.
  const Leases& planned(int trainer) const { return planned_[trainer]; }
  // Every replica has a trainer that computes it.
  bool settled() const;
  // Whether somebody else is there, who does not leave.
  bool CanSpare(int trainer) const;
  // Replicas that went from one trainer to another.
  int64_t moves() const { return moves_; }

  // It is ready to compute.
  void Join(int trainer);
  // It wants to leave. PRECONDITION: CanSpare.
  void Leave(int trainer);
  // It is gone without a word. PRECONDITION: CanSpare.
  void Lose(int trainer);
  // It is there and computes nothing any more, without being told: it is to begin anew.
  void BeginAnew(int trainer);
  // It computes nothing any more, as it was told.
  void OnPaused(int trainer);
  // Each action is told once.
  Actions Take();

 private:
  enum class State { kAway, kIdle, kTraining, kPausing };
  struct Trainer {
    State state = State::kAway;
    bool leaving = false, anew = false;
    Leases leases;
  };
  bool there(const Trainer& t) const { return t.state != State::kAway && !t.leaving; }
  void Plan();

  const std::vector<Leases> homes_;
  std::vector<Trainer> trainers_;
  std::vector<Leases> planned_;
  std::vector<int> holder_;  // by replica: the last one; -1: none yet
  int64_t moves_ = 0;
};

}  // namespace muster::master
