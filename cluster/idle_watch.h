// IdleWatch: whether all machines of a job have done nothing for so long that it is better ended
// (cluster.idle).
//
// A pure state machine: time is passed in. Owned by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace muster::cluster {

struct IdleLimit {
  double busy_below = 0;  // shares up to this are idle
  int64_t for_ms = 0;     // 0: no limit
};

// Why a job is ended that has been idle.
std::string IdleReason(const IdleLimit& limit);

class IdleWatch {
 public:
  IdleWatch(const IdleLimit& limit, size_t machines) : limit_(limit), machines_(machines) {}

  // What a machine has done lately, as a share (cluster/machine_use.h). One that was never heard of
  // is not idle.
  void OnUse(size_t machine, double share, int64_t now_ms);
  // All begins anew.
  void Reset() { idle_since_ms_.clear(); }
  bool IsIdle(int64_t now_ms) const;

 private:
  const IdleLimit limit_;
  const size_t machines_;
  std::map<size_t, int64_t> idle_since_ms_;  // of those that are idle
};

}  // namespace muster::cluster
