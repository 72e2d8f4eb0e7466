// Leases: which trainer process computes which replicas.
//
// Pure functions over values. A replica is a logical index v < V fixed by the job; processes come
// and go, leases move, V never changes.
#pragma once

#include <cstdint>
#include <vector>

namespace muster::master {

// Replicas of each of `trainers` processes: contiguous, sizes differ by at most one, trainer 0
// holds replica 0. PRECONDITION: 1 <= trainers <= replicas.
std::vector<std::vector<int32_t>> AssignLeases(int replicas, int trainers);

}  // namespace muster::master
