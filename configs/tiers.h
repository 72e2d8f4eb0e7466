// Tiers: what a scale tier stands for. Pure functions: thread-safe.
//
//   BASIC       one machine
//   BASIC_GPU   one machine with one GPU
//   BASIC_TPU   understood, and refused by rules.h: Muster has no TPU kernels
//   STANDARD_1  1 master + 4 workers + 3 servers
//   PREMIUM_1   1 master + 19 workers + 11 servers
//   CUSTOM      what the file says
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "configs/catalog.h"
#include "configs/job.pb.h"

namespace muster {

enum class Role { kMaster, kWorker, kParameterServer, kEvaluator };

// "master", "worker", "ps", "evaluator": names of logs, processes and TF_CONFIG's cluster.
const char* RoleName(Role role);
// The role of such a name; none when it is none's.
std::optional<Role> RoleOf(std::string_view name);

// How many of a role, and on which machine type ("" when there is none of it).
struct RoleSize {
  int64_t count = 0;
  std::string machine_type;
};

// Sizes of a role under the job's tier. CUSTOM takes them from the job. REQUIRES: the tier is set.
RoleSize SizeOf(const TrainingInput& input, Role role);

// What the job says of one of the role's machines.
const ReplicaConfig& ConfigOf(const TrainingInput& input, Role role);

// The container that the job names for the role: the master's for one that names none. "": none.
std::string ImageOf(const TrainingInput& input, Role role);

// The accelerators of one of the role's machines: those attached to it, or else built into its
// type; count 0 for none. REQUIRES: as SizeOf, and a machine type that the catalogue has, or "".
AcceleratorConfig AcceleratorsOf(const TrainingInput& input, Role role, const Catalog& catalog);

// True when the whole job is one process: no tensor leaves it.
bool RunsInOneProcess(ScaleTier tier);

}  // namespace muster
