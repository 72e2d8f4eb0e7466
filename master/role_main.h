// RunRoleProgram: the main function of the programs `worker` and `ps`.
//
//   PROGRAM --master=ADDRESS --role=chief|worker|ps --index=N --job-dir=D [--threads=N]
//           [--shared-memory=false]
//
// The job's token comes in the environment variable MUSTER_JOB_TOKEN. Logs to
// <job-dir>/logs/<role>-<index>.log. Exit codes: 0 the master ended the role, 1 it failed, 2 the
// arguments are wrong.
#pragma once

#include <memory>
#include <string>

#include "master/roles.h"
#include "telemetry/metrics.h"
#include "telemetry/status.h"

namespace muster::master {

int RunRoleProgram(int argc, char** argv, absl::Status (*run)(const RoleOptions&));

// The arguments of any role program, the master included.
struct RoleArguments {
  std::string master, role, job_dir, token;
  int index = 0;
  int threads = 1;
  int first_core = -1;
  Training::Device device = Training::AUTO;
  Training::Precision precision = Training::TF32;
  bool shared_memory = true;  // false: tensors travel over gRPC on one host too
};
// `token` is the value of MUSTER_JOB_TOKEN. Fails naming the argument.
absl::StatusOr<RoleArguments> ParseRoleArguments(int argc, char** argv, const char* token);

// A process's page of metrics, with what every process shows. Without a port for it work goes on: a
// warning in `log`, and no page.
struct ProcessPage {
  std::unique_ptr<MetricsPage> page;  // may be null
  std::shared_ptr<void> shown;
};
ProcessPage ServeProcessPage(std::string role, int index, Log& log);

// This machine's name.
std::string HostName();

}  // namespace muster::master
