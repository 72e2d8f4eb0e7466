// Leases: which trainer process computes which replicas.
//
// Pure functions over values. A replica is a logical index v < V fixed by the job; processes come
// and go, leases move, V never changes.
#pragma once

#include <cstdint>
#include <vector>

namespace muster::master {

using Leases = std::vector<int32_t>;  // replicas, rising

// Replicas of each of `trainers` processes: contiguous, sizes differ by at most one, trainer 0
// holds replica 0. PRECONDITION: 1 <= trainers <= replicas.
std::vector<Leases> AssignLeases(int replicas, int trainers);

// The same when only some trainers are there: each of them keeps its `homes`, and the replicas of
// the others go, lowest first, to whoever has the fewest then (the first of these). The result
// depends on who is there, not on how that came about. PRECONDITION: somebody is there.
std::vector<Leases> ShareLeases(const std::vector<Leases>& homes, const std::vector<bool>& there);

}  // namespace muster::master
