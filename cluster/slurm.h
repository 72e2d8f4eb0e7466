// What a job asks of Slurm and what Slurm says of it: the script that holds a job's machines, the
// commands, their output. A job's machines are one heterogeneous job, so that all of them come at
// once or none: the master's, the workers', the parameter servers'.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/plan.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// One kind of a job's machines, each of which is a node of Slurm's.
struct SlurmComponent {
  Role role = Role::kMaster;
  int64_t machines = 0;
  int cpus = 0;  // of one machine
  double memory_gb = 0;
  int64_t gpus = 0;
};

std::vector<SlurmComponent> SlurmComponents(const Plan& plan);

// The batch script: it only holds the nodes, for as long as a launcher runs steps of the name
// kSlurmStep on them, and a quarter of a minute more.
inline constexpr char kSlurmStep[] = "muster-node";
struct SlurmRequest {
  std::string job_id;
  std::string log_path;
  int64_t max_running_s = 0;
  std::vector<SlurmComponent> components;
};
std::string SlurmScript(const SlurmRequest& request, const Slurm& slurm);

// What squeue says of one component, in the format kSlurmFormat.
inline constexpr char kSlurmFormat[] = "%i|%A|%T|%r|%N";
struct SlurmStatus {
  std::string state;   // "PENDING", "RUNNING", …
  std::string reason;  // why it waits: "Resources", "Priority"
  std::string job;     // its number
  std::string nodes;   // "n[2-3]"; "" while it waits
};
// By component. Fails on lines that are not squeue's.
absl::StatusOr<std::vector<SlurmStatus>> ParseSqueue(const std::string& text);

// Words that run a shell script as a step on one node of `component`, its input and output being
// ours. `job`: the number of the first component; `component`: -1 for a job that has one alone.
std::vector<std::string> SrunWords(const std::string& job, int component, const std::string& node,
                                   int cpus, const std::string& script);

// One line with what to do, from what a command of Slurm's wrote to its stderr.
std::string ExplainSlurm(const std::string& complaint);

}  // namespace muster::cluster
