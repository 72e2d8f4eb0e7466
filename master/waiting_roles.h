// WaitingRoles: roles that have come while the one before them still counts as there.
//
// Whoever starts a worker anew knows that the former is gone, often seconds before its silence
// tells the master: its machine vanished without a word. Until that, or the former's next word, the
// new one waits, and what it says is kept.
//
// Owned by one thread (the coordinator's).
#pragma once

#include <cstdint>
#include <vector>

#include "master/event_queue.h"
#include "master/membership.h"

namespace muster::master {

class WaitingRoles {
 public:
  struct Waiting {
    RoleJoined joined;
    std::vector<RoleSaid> said;  // since
    int64_t since_ms = 0;
  };

  void Add(RoleJoined joined, int64_t now_ms);
  // Whether it is of a role that waits: then it is kept.
  bool Keep(const RoleSaid& said);
  // Whether it is of a role that waited: it does no more.
  bool Drop(const RoleLeft& left);
  // Those whose wait is over: the former is gone, was missed for long enough, or was heard since.
  std::vector<Waiting> Take(const std::vector<Member>& members, int64_t now_ms);

 private:
  std::vector<Waiting> waiting_;  // in the order they came
};

}  // namespace muster::master
