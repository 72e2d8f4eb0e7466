// Cluster: a whole job in one process: the coordinator, trainers and parameter servers of a Job on
// threads, joined by a transport.
//
// Owned by one thread. Run blocks; what else may be done while the job runs is thread-safe, and may
// be done in on_status.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "configs/job.pb.h"
#include "master/coordinator.h"
#include "master/job_state.h"
#include "master/roles.h"
#include "master/trainer_device.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::harness {

struct ClusterOptions {
  Job job;
  int trainers = 1;  // processes' worth of trainers; the first is the chief
  int servers = 1;
  int replicas = 1;  // V
  std::string job_dir;
  rpc::Transport* transport = nullptr;  // null: an in-process one
  std::string listen_address = "inproc:0";
  std::function<std::unique_ptr<worker::Module>()> make_module;
  // Of each trainer; null: the CPU, 1 thread.
  std::function<absl::StatusOr<master::TrainerDevice>()> make_device;
  std::function<void(const master::StatusLine&)> on_status;
  Log* role_log = nullptr;  // null: dropped
  // As BASIC and BASIC_GPU: the server and the trainer, one of each, share the trainer's device.
  bool one_process = false;
};

struct ClusterResult {
  absl::Status status;         // of the coordinator
  std::vector<float> weights;  // the newest checkpoint's, in ParamTable order without padding;
                               // empty: there is none
  int64_t checkpoint_step = -1;
  master::JobState state;  // state.json as the run left it
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  ~Cluster();
  ClusterResult Run();
  void Interrupt(const std::string& reason);
  // While the job trains. As SIGTERM to worker number `worker`, counted from 0.
  void Leave(int worker);
  // As SIGKILL, once it has sent `messages` more messages.
  void Kill(int worker, int64_t messages = 0);
  // As a network that loses the connections of trainer number `trainer` (0: the chief) to the
  // servers, once it has sent so many more messages.
  void Break(int trainer, int64_t messages = 0);
  // Another process for the worker, which has left or was killed.
  void Start(int worker);

 private:
  struct Process;
  std::unique_ptr<worker::Module> MakeModule() const;
  absl::StatusOr<master::TrainerDevice> MakeDevice() const;
  void StartRole(const std::string& name, int index,
                 absl::Status (*run)(const master::RoleOptions&));
  Process* Newest(const std::string& role, int index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ClusterOptions options_;
  std::unique_ptr<rpc::Transport> own_transport_;
  rpc::Transport* transport_;
  master::RoleOptions shared_;  // what roles of one process share
  const std::unique_ptr<Log> log_ = Log::Discard();
  std::unique_ptr<master::Coordinator> coordinator_;
  Mutex mu_;
  bool over_ ABSL_GUARDED_BY(mu_) = false;  // nobody is started any more
  std::vector<std::thread> roles_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Process>> processes_ ABSL_GUARDED_BY(mu_);
};

// What a trainer with this device alone computes on.
master::TrainerDevice Alone(std::unique_ptr<Device> device);

// A job of the toy module: `steps` steps of batch 8 with a checkpoint every `checkpoint_interval`.
Job ToyJob(int64_t steps, int64_t checkpoint_interval = 0);

}  // namespace muster::harness
