// What a job asks of Slurm and what Slurm says of it: the script that holds a job's machines, the
// commands, their output. A job's machines are one heterogeneous job, so that all of them come at
// once or none: the master's, the workers', the parameter servers'.
//
// Pure functions: thread-safe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// The batch script. On each node it runs a keeper of the job in `folder` (`launch node keep`), the
// hosts' places in the order of roles; a group's nodes are given back when all of its keepers have
// ended. `programs`: the folder of `launch` there. Paths may begin with "~/".
std::string SlurmScript(const MachineOrder& order, const Slurm& slurm, const std::string& programs,
                        const std::string& folder);

// What squeue says of one component, in the format kSlurmFormat.
inline constexpr char kSlurmFormat[] = "%i|%T|%D|%c|%N|%r|%k|%j";
struct SlurmStatus {
  std::string id;           // "12+1", or "12" of a job that has one component alone
  std::string state;        // "PENDING", "RUNNING", …
  int nodes = 0, cpus = 0;  // of one node
  std::string node_list;    // "n[2-3]"; "" while it waits
  std::string reason;       // why it waits: "Resources", "Priority"; may be ""
  // What SlurmScript has marked it with.
  std::string job_id, run, owner;
  int attempt = 0;
  Role role = Role::kMaster;
};
// Those of ours; lines of other jobs are passed over.
std::vector<SlurmStatus> ParseSqueue(const std::string& text);

// Whether such a job has ended, and its nodes are free.
bool SlurmHasEnded(const std::string& state);

// By node: its address, from `scontrol -o show node`.
std::map<std::string, std::string> ParseNodeAddresses(const std::string& text);

// Words that run a shell script as a step on one node of the component `id`, its input and output
// being ours.
std::vector<std::string> SrunWords(const std::string& id, const std::string& node, int cpus,
                                   const std::string& script);

// The same for a person.
std::vector<std::string> SrunTerminalWords(const std::string& id, const std::string& node,
                                           const TerminalWish& wish);

// One line with what to do, from what a command of Slurm's wrote to its stderr.
std::string ExplainSlurm(const std::string& complaint);

// Whether it says that the controller did not answer, so that what was asked for may be there.
bool IsWithoutAnswer(const std::string& complaint);

}  // namespace muster::cluster
