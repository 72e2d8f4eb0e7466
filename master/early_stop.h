// EarlyStop: how an interrupted run agrees on the step at which it ends.
//
//   trainers are told to hold
//     → each answers how many steps it has begun
//     → the target is one more than the most
//     → the servers are told to cut there
//     → once all have accepted, the trainers are told to go on to it
//
// One step more than anybody has begun: no slice can have reached that clock, so every server can
// still save it. A pure state machine; owned by one thread (the coordinator's).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "master/membership.h"

namespace muster::master {

class EarlyStop {
 public:
  struct Run {
    int trainers = 1, servers = 1;
    int64_t start = 0, total = 0;  // clocks
    int64_t cut_interval = 0;      // of the checkpoints that servers know from the start; 0: none
  };
  // What the coordinator does next.
  enum class Action {
    kWait,
    kCut,  // tell the servers to cut at the target
    kGo,   // tell the trainers to go on to the target
  };

  explicit EarlyStop(const Run& run) : run_(run), most_begun_(run.start) {}

  // `trainer` holds, and has begun `begun` steps.
  Action OnHeld(const RoleId& trainer, int64_t begun);
  // `server` will cut at the target.
  Action OnCutAccepted(const RoleId& server);

  // The clock at which the run ends; nullopt until all trainers hold.
  std::optional<int64_t> target() const { return target_; }

 private:
  const Run run_;
  int64_t most_begun_;
  std::set<std::string> held_, accepted_;  // by name of the role
  std::optional<int64_t> target_;
};

}  // namespace muster::master
