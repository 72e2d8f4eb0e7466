// RunRoleProgram: the main function of the programs `worker` and `ps`.
//
//   PROGRAM --master=ADDRESS --role=chief|worker|ps --index=N --job-dir=D [--threads=N]
//           [--gpus=N --trainer=I --trainers=N] [--device=D] [--precision=P] [--cuda-graphs=false]
//           [--shared-memory=false] [--host=ADDRESS]
//
// The job's token comes in the environment variable MUSTER_JOB_TOKEN, and where a job has several
// hosts the process's certificate and key in MUSTER_IDENTITY (rpc/identity.h). Logs to
// <job-dir>/logs/<role>-<index>.log. Exit codes: 0 the master ended the role, 1 it failed, 2 the
// arguments are wrong.
#pragma once

#include <memory>
#include <string>

#include "master/roles.h"
#include "rpc/identity.h"
#include "telemetry/metrics.h"
#include "telemetry/status.h"

namespace muster::master {

// `leave`: RoleOptions::leave.
int RunRoleProgram(int argc, char** argv, absl::Status (*run)(const RoleOptions&),
                   LeaveNotice* leave = nullptr);

// The arguments of any role program, the master included.
struct RoleArguments {
  std::string master, role, job_dir, token;
  std::string host = "127.0.0.1";  // of this host: where other roles reach this one
  std::string ports = "0";         // that it may listen on: "30000-30099"; "0": any
  int index = 0;
  int threads = 1;
  int first_core = -1;
  GpuClaim gpus;  // of trainers
  Training::Device device = Training::AUTO;
  Training::Precision precision = Training::TF32;
  bool cuda_graphs = true;
  bool shared_memory = true;  // false: tensors travel over gRPC on one host too
  rpc::Identity identity;     // empty: all of the job is on one host
};
// `token` and `identity` are the values of MUSTER_JOB_TOKEN and MUSTER_IDENTITY. Fails naming the
// argument.
absl::StatusOr<RoleArguments> ParseRoleArguments(int argc, char** argv, const char* token,
                                                 const char* identity);

// A process's page of metrics, with what every process shows. Without a port for it work goes on: a
// warning in `log`, and no page.
struct ProcessPage {
  std::unique_ptr<MetricsPage> page;  // may be null
  std::shared_ptr<void> shown;
};
ProcessPage ServeProcessPage(std::string role, int index, Log& log);

}  // namespace muster::master
