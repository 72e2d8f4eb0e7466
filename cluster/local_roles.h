// LocalRoles: which processes of this machine a job becomes, and how many threads each gets. Pure
// functions, thread-safe.
//
//   one machine (BASIC, BASIC_GPU,   master: coordinator, shards and trainer in one process
//   nothing but a master)
//   workers or parameter servers     master; a chief trainer unless training.chiefTrains is false;
//                                    workers; servers
#pragma once

#include <cstddef>
#include <vector>

#include "cluster/local.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// The master first. Trainers share the `cores`: training.threads each, or max(1, cores / trainers).
// Each wants as many GPUs as its machine type has, or one.
// Where there are cores for all threads of trainers and shards, each shard has the last ones to
// itself.
// PRECONDITION: `job` is resolved and checked.
std::vector<LocalRole> LocalRoles(const Job& job, int cores);

// Tells each trainer which of the trainers it is that share its host's GPUs. `host_of_role`: by
// role.
void ShareGpus(const std::vector<size_t>& host_of_role, std::vector<LocalRole>* roles);

// Everything of a LocalJob that follows from the job file; plan, settings, substitutions and price
// are left to the caller.
LocalJob MakeLocalJob(const Job& job, int cores);

}  // namespace muster::cluster
