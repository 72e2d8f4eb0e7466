// RunRoleProgram: the main function of the programs `worker` and `ps`.
//
//   PROGRAM --master=ADDRESS --role=chief|worker|ps --index=N --job-dir=D [--threads=N]
//
// The job's token comes in the environment variable MUSTER_JOB_TOKEN. Logs to
// <job-dir>/logs/<role>-<index>.log. Exit codes: 0 the master ended the role, 1 it failed, 2 the
// arguments are wrong.
#pragma once

#include "master/roles.h"
#include "telemetry/status.h"

namespace muster::master {

int RunRoleProgram(int argc, char** argv, absl::Status (*run)(const RoleOptions&));

// The arguments of any role program, the master included.
struct RoleArguments {
  std::string master, role, job_dir, token;
  int index = 0;
  int threads = 1;
  bool shared_memory = true;  // false: tensors travel over gRPC on one host too
};
// `token` is the value of MUSTER_JOB_TOKEN. Fails naming the argument.
absl::StatusOr<RoleArguments> ParseRoleArguments(int argc, char** argv, const char* token);

// This machine's name.
std::string HostName();

}  // namespace muster::master
