// Runs of the toy module's jobs (toy_module.h), whole ones and such that are interrupted.
#pragma once

#include <cstdint>

#include "configs/job.pb.h"
#include "rpc/transport.h"
#include "tests/harness/cluster.h"

namespace muster::harness {

// Runs `job` in a folder of its own. `transport` null: an in-process one.
ClusterResult RunToy(const Job& job, int replicas, int trainers, int servers,
                     rpc::Transport* transport = nullptr);

// Interrupts the run of `options`, three replicas of the toy model, once it has finished `at`
// steps. No sample of step `end` is read before the master stops it, so it does not finish first.
ClusterResult RunAndInterrupt(ClusterOptions options, int64_t at, int64_t end);

}  // namespace muster::harness
