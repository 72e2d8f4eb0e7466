// TrainerFailures: trainers that could not reach a server, until it is clear what to do about it.
//
// A server that dies breaks the connections to its trainers and its link to the master in any
// order, and one whose machine vanishes is only silent. So a trainer's word is kept for a moment,
// and for as long as a server is not heard of: whoever sees that end the job names the server.
// Where all of them are there, the connection alone broke, and the trainer begins anew.
//
// Owned by one thread (the coordinator's).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "master/membership.h"
#include "telemetry/status.h"

namespace muster::master {

class TrainerFailures {
 public:
  struct Failure {
    RoleId role;
    absl::Status status;
    bool stays = false;  // it can begin anew
  };

  // What `failure.role`, which has finished `clock` steps, has said.
  void Add(Failure failure, int64_t clock, int64_t now_ms);
  // The trainer is gone.
  void Forget(const RoleId& role);
  // The first failure that no server's end explains; its `stays` is false, too, where the trainer
  // has begun anew again and again without finishing a step. Told once.
  std::optional<Failure> Take(const std::vector<Member>& members, int64_t now_ms);

 private:
  struct Told {
    Failure failure;
    int64_t at_ms;
  };
  struct Tries {
    int64_t clock = -1;
    int count = 0;
  };
  std::vector<Told> told_;
  std::map<std::string, Tries> tries_;  // by the role's name
};

}  // namespace muster::master
