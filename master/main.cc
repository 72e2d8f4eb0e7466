// The program `master`: the coordinator of a job, and in the same process whatever roles have no
// process of their own: the parameter server of a job that asks for none, and for a job of one
// machine the trainer too, joined by function calls instead of sockets.
//
//   master --job-dir=D [--threads=N]
//
// The resolved job is D/job.yaml, the token is in MUSTER_JOB_TOKEN, status lines go to fd 3.
//
// SIGINT or SIGTERM: finish the step, checkpoint, stop all; again: stop at once. Exit codes: 0
// succeeded, 1 failed, 2 wrong arguments, 130 interrupted.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "cluster/lifeline.h"
#include "cluster/plan_report.h"
#include "configs/job_yaml.h"
#include "configs/tiers.h"
#include "master/coordinator.h"
#include "master/one_process.h"
#include "master/role_main.h"
#include "rpc/allocator.h"
#include "rpc/inproc_transport.h"
#include "rpc/process_transport.h"
#include "telemetry/build_id.h"
#include "telemetry/host_name.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

constexpr int kExitInterrupted = 130;

// One write per line; a launcher that is gone is noticed by the lifeline.
void WriteStatusLine(const StatusLine& line) {
  const std::string text = EncodeStatusLine(line) + "\n";
  (void)!write(kStatusFd, text.data(), text.size());
}

absl::StatusOr<Job> ReadResolvedJob(const JobDirectory& dir) {
  JobDraft draft;
  if (!ReadJobFile(dir.job_yaml(), &draft) || !draft.problems.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{} is not the resolved job that `launch` wrote", dir.job_yaml()));
  }
  return draft.job;
}

// What of the job lives in this process.
struct Shape {
  int64_t workers = 0, servers = 0;
  bool chief_trains = true;
  bool one_process() const { return workers == 0 && servers == 0; }
};

Shape ShapeOf(const Job& job) {
  Shape shape;
  shape.workers = SizeOf(job.training_input(), Role::kWorker).count;
  shape.servers = SizeOf(job.training_input(), Role::kParameterServer).count;
  shape.chief_trains =
      !job.training().has_chief_trains() || job.training().chief_trains() || shape.workers == 0;
  return shape;
}

// Passes signals, which every thread blocks, to the coordinator. The thread lives as long as the
// process.
void ForwardSignals(const std::shared_ptr<Coordinator>& coordinator, sigset_t signals) {
  std::thread([coordinator, signals] {
    for (;;) {
      int signal = 0;
      if (sigwait(&signals, &signal) == 0) {
        coordinator->Interrupt(signal == SIGINT ? "interrupted" : "asked to stop");
      }
    }
  }).detach();
}

// `made`: there was a coordinator, which has told the launcher how the job ended.
absl::Status RunMaster(const RoleArguments& arguments, Log& log, const sigset_t& signals,
                       bool* made) {
  const JobDirectory dir(arguments.job_dir);
  ASSIGN_OR_RETURN(const Job job, ReadResolvedJob(dir));
  const Shape shape = ShapeOf(job);
  // In one process the trainer's line is the first of this log too.
  if (!shape.one_process()) log.Info("device none: the coordinator computes nothing");
  std::unique_ptr<rpc::Transport> transport;
  if (shape.one_process()) {
    transport = rpc::MakeInprocTransport();
  } else {
    ASSIGN_OR_RETURN(transport,
                     rpc::MakeProcessTransport(
                         log, !job.cluster().has_shared_memory() || job.cluster().shared_memory(),
                         arguments.identity));
  }
  rpc::Hello self;
  self.protocol_version = rpc::kProtocolVersion;
  self.build_id = BuildId();
  self.job_token = arguments.token;
  self.service = "control";
  self.role = "master";

  const ProcessPage metrics = ServeProcessPage("master", 0, log);

  CoordinatorOptions options;
  if (metrics.page != nullptr) options.metrics_address = metrics.page->address();
  options.job = job;
  options.chief = shape.chief_trains ? 1 : 0;
  options.workers = static_cast<int>(shape.workers);
  options.servers = static_cast<int>(std::max<int64_t>(1, shape.servers));
  options.hosts_server = shape.servers == 0;
  options.num_replicas = options.chief + options.workers;
  options.dir = dir;
  options.transport = transport.get();
  options.listen_address =
      shape.one_process() ? "inproc:0" : arguments.host + ":" + arguments.ports;
  options.self = self;
  options.log = &log;
  options.on_status = WriteStatusLine;
  options.now_ms = UnixMillis;
  options.host = HostName();
  options.pid = getpid();
  options.make_module = MakeModuleOf;
  cluster::PlanReport plan = cluster::MakePlanReport(job);
  options.plan = std::move(plan.rows);
  options.settings = std::move(plan.settings);
  options.substitutions = std::move(plan.substitutions);
  options.dollars_per_hour = plan.dollars_per_hour;
  ASSIGN_OR_RETURN(std::shared_ptr<Coordinator> coordinator, Coordinator::Make(options));
  *made = true;
  ForwardSignals(coordinator, signals);
  std::shared_ptr<void> shown;
  if (metrics.page != nullptr) {
    shown = metrics.page->Show([coordinator](std::vector<Metric>& out) {
      out.push_back({.name = "muster_lease_moves_total",
                     .help = "Replicas that went from one trainer to another",
                     .value = static_cast<double>(coordinator->lease_moves())});
    });
  }

  RoleOptions role;
  role.metrics = metrics.page.get();
  role.transport = transport.get();
  role.log = &log;
  role.self = self;
  role.master_address = coordinator->address();
  role.listen_address = options.listen_address;
  role.host = options.host;
  role.pid = options.pid;
  role.make_device = [&job, &arguments] {
    return MakeTrainerDevice(
        job.training().device(),
        GpuOptionsOf(job.training().precision(),
                     !job.training().has_cuda_graphs() || job.training().cuda_graphs()),
        std::max(1, arguments.threads), arguments.gpus,
        DefaultGpuSearch(BuildId(), std::getenv("HOME"), std::getenv("VIRTUAL_ENV")));
  };
  role.make_module = MakeModuleOf;
  if (shape.one_process()) ShareDevice(job.training(), role);
  std::vector<std::thread> hosted;
  const auto host = [&](const char* name, absl::Status (*run)(const RoleOptions&)) {
    role.self.role = name;
    hosted.emplace_back([role, run, coordinator] {
      if (absl::Status status = run(role); !status.ok()) coordinator->Fail(std::move(status));
    });
  };
  if (shape.servers == 0) host("ps", RunServerRole);
  if (shape.one_process()) host("chief", RunTrainerRole);
  const absl::Status status = coordinator->Run();
  for (std::thread& thread : hosted) thread.join();
  return status;
}

int Main(int argc, char** argv) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  if (absl::Status status = cluster::StartLifeline(std::getenv(cluster::kLifelineVariable));
      !status.ok()) {
    fmt::print(stderr, "master: {}\n", std::string(status.message()));
    return 2;
  }
  const auto arguments = ParseRoleArguments(argc, argv, std::getenv("MUSTER_JOB_TOKEN"),
                                            std::getenv("MUSTER_IDENTITY"));
  if (!arguments.ok()) {
    fmt::print(stderr, "master: {}\n", std::string(arguments.status().message()));
    return 2;
  }
  rpc::TuneAllocator();
  const auto log = Log::ToFile(JobDirectory(arguments->job_dir).log("master", 0), "master");
  if (!log.ok()) {
    fmt::print(stderr, "master: {}\n", std::string(log.status().message()));
    return 1;
  }
  bool made = false;
  const absl::Status status = RunMaster(*arguments, **log, signals, &made);
  if (status.ok()) return 0;
  (*log)->Error("ended: {}", std::string(status.message()));
  if (absl::IsCancelled(status)) return kExitInterrupted;
  // Else the coordinator has said so.
  if (!made) WriteStatusLine(EndedBy(status, /*training_began=*/false));
  return 1;
}

}  // namespace
}  // namespace muster::master

int main(int argc, char** argv) { return muster::master::Main(argc, argv); }
