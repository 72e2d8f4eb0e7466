// The roles' main functions: a parameter server and a trainer, wired to the master by an Agent.
//
// ps and worker know nothing of the master; these two functions join them. The programs `ps` and
// `worker` call them in a process of their own, `master` calls them on threads when the job has no
// process for the role (BASIC, no parameter servers), tests/harness calls them for a whole cluster
// in one process. Each call blocks until the master ends the role; several may run at once in one
// process.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "configs/job.pb.h"
#include "master/leave_notice.h"
#include "master/trainer_device.h"
#include "ps/residence.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::master {

struct RoleOptions {
  rpc::Transport* transport = nullptr;  // to the master and for tensors; borrowed
  Log* log = nullptr;                   // borrowed
  rpc::Hello self;                      // role "chief" | "worker" | "ps", index, build, token
  std::string master_address;
  std::string listen_address;  // servers: "127.0.0.1:0" or "inproc:0"
  std::string job_dir;         // the job's directory on this host; "": the master's
  std::string host;
  int64_t pid = 0;
  LeaveNotice* leave = nullptr;    // workers: borrowed, may be null
  MetricsPage* metrics = nullptr;  // where to show what the role counts; borrowed, may be null
  int first_core = -1;             // servers: ps::ServerOptions::first_core
  // Servers: where they compute, for the log.
  std::string server_device = "/cpu:0 (parameter servers work on the CPU)";
  // Of the trainer and the server of one process (master/one_process.h): where the parameters live;
  // null: with the server alone.
  std::shared_ptr<ps::Residence> residence;
  // Trainers: what to compute on; MakeTrainerDevice outside tests.
  std::function<absl::StatusOr<TrainerDevice>()> make_device;
  // Finds the module that the job names; worker::FindModule outside tests.
  std::function<absl::StatusOr<std::unique_ptr<worker::Module>>(const Job& job)> make_module;
};

// OK when the master said that the job is done, or goes on without the worker; Cancelled when it
// was stopped; else what broke (the master has been told).
absl::Status RunServerRole(const RoleOptions& options);
absl::Status RunTrainerRole(const RoleOptions& options);

// The module named by trainingInput.pythonModule, made from trainingInput.args.
absl::StatusOr<std::unique_ptr<worker::Module>> MakeModuleOf(const Job& job);

// Steps between points of the loss curve.
int64_t SummaryInterval(const Training& training);

}  // namespace muster::master
