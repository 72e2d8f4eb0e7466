// Cluster: a whole job in one process: the coordinator, trainers and parameter servers of a Job on
// threads, joined by a transport.
//
// Owned by one thread. Run blocks; Interrupt may be called from another thread or from on_status.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "master/coordinator.h"
#include "master/job_state.h"
#include "master/trainer_device.h"
#include "rpc/transport.h"
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

 private:
  const ClusterOptions options_;
  std::unique_ptr<rpc::Transport> own_transport_;
  rpc::Transport* transport_;
  std::unique_ptr<master::Coordinator> coordinator_;
};

// What a trainer with this device alone computes on.
master::TrainerDevice Alone(std::unique_ptr<Device> device);

// A job of the toy module: `steps` steps of batch 8 with a checkpoint every `checkpoint_interval`.
Job ToyJob(int64_t steps, int64_t checkpoint_interval = 0);

}  // namespace muster::harness
