// LagWatch: which trainers hold the others up, and when to say so.
//
// Pure: members and time are passed in. Owned by one thread (the coordinator's).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "master/membership.h"
#include "master/status_line.h"

namespace muster::master {

// The trainers that are ready and have said nothing, not even a heartbeat, for three seconds.
std::vector<LaggingReplica> Lagging(const std::vector<Member>& members, int64_t now_ms);

// In BSP nobody makes progress while one replica stands still: then no progress tells that it does.
class LagWatch {
 public:
  // Who lags, when it is time to tell: once a second while somebody lags, and once (empty) when
  // nobody does any more; else nullopt.
  std::optional<std::vector<LaggingReplica>> Look(const std::vector<Member>& members,
                                                  int64_t now_ms);

 private:
  bool lagging_ = false;  // what was told last: somebody lags
  int64_t told_ms_ = 0;
};

}  // namespace muster::master
