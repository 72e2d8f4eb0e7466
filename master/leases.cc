#include "master/leases.h"

#include <algorithm>
#include <optional>

#include "telemetry/check.h"

namespace muster::master {

std::vector<Leases> AssignLeases(int replicas, int trainers) {
  CHECK_GE(trainers, 1);
  CHECK_LE(trainers, replicas);
  std::vector<Leases> leases(trainers);
  for (int t = 0; t < trainers; ++t) {
    const int begin = static_cast<int>(int64_t{replicas} * t / trainers);
    const int end = static_cast<int>(int64_t{replicas} * (t + 1) / trainers);
    for (int v = begin; v < end; ++v) leases[t].push_back(v);
  }
  return leases;
}

std::vector<Leases> ShareLeases(const std::vector<Leases>& homes, const std::vector<bool>& there) {
  CHECK(std::ranges::find(there, true) != there.end());
  std::vector<Leases> leases(homes.size());
  Leases orphans;
  for (size_t t = 0; t < homes.size(); ++t) {
    Leases& to = there[t] ? leases[t] : orphans;
    to.insert(to.end(), homes[t].begin(), homes[t].end());
  }
  std::ranges::sort(orphans);
  for (const int32_t replica : orphans) {
    std::optional<size_t> to;
    for (size_t t = 0; t < homes.size(); ++t) {
      if (there[t] && (!to || leases[t].size() < leases[*to].size())) to = t;
    }
    leases[*to].push_back(replica);
  }
  for (Leases& own : leases) std::ranges::sort(own);
  return leases;
}

}  // namespace muster::master
