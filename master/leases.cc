#include "master/leases.h"

#include "telemetry/check.h"

namespace muster::master {

std::vector<std::vector<int32_t>> AssignLeases(int replicas, int trainers) {
  CHECK_GE(trainers, 1);
  CHECK_LE(trainers, replicas);
  std::vector<std::vector<int32_t>> leases(trainers);
  for (int t = 0; t < trainers; ++t) {
    const int begin = static_cast<int>(int64_t{replicas} * t / trainers);
    const int end = static_cast<int>(int64_t{replicas} * (t + 1) / trainers);
    for (int v = begin; v < end; ++v) leases[t].push_back(v);
  }
  return leases;
}

}  // namespace muster::master
