// Coordinator: the master of a job. Gathers the roles, places slices, hands out leases, follows the
// run, commits checkpoints, and ends it.
//
//   roles register (event_queue.h, membership.h)
//     → trainers read their data while servers initialise or restore (run_start.h, setup_message.h)
//     → placement
//     → steps … trainers leave, are lost (role_losses.h) and come back, and leases move
//       (lease_moves.h); loss points and evaluations that roles report are gathered
//       (training_progress.h, gather.h) and recorded (run_record.h), checkpoints committed
//       (checkpoint_commits.h)
//     → all trainers finished, the last checkpoint committed
//     → model exported (run_result.h)
//     → everybody is told to stop
//
// An interrupted run ends earlier, at a clock that early_stop.h finds.
//
// Run is called by one thread, which owns all state; messages reach it through event_queue.h.
// Interrupt and Fail are thread-safe. It knows no process: who starts and watches the roles'
// processes is cluster/. Time comes from options.now_ms.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "master/job_directory.h"
#include "master/report.h"
#include "master/status_line.h"
#include "ps/param.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::master {

struct CoordinatorOptions {
  Job job;                              // resolved: module, schedule, batch size, threads are set
  int chief = 1;                        // trainer on the master's machine: 0 or 1
  int workers = 0;                      // worker processes
  int servers = 1;                      // parameter servers, wherever they run
  bool hosts_server = false;            // the one server runs in this process: no entry of its own
  int num_replicas = 1;                 // V >= trainers (chief + workers)
  JobDirectory dir{""};                 // exists (CreateJobDirectory)
  rpc::Transport* transport = nullptr;  // borrowed
  std::string listen_address;
  rpc::Hello self;     // role "master"
  Log* log = nullptr;  // borrowed
  std::function<void(const StatusLine&)>
      on_status;                    // on Run's thread, and for the listening line on Make's
  std::function<int64_t()> now_ms;  // since 1970
  std::string host;
  int64_t pid = 0;
  std::string metrics_address;  // of this process; empty: it shows none
  std::function<absl::StatusOr<std::unique_ptr<worker::Module>>(const Job&)> make_module;
  // For the report and state.json.
  std::vector<PlanRow> plan;
  std::vector<std::pair<std::string, std::string>> settings, substitutions;
  double dollars_per_hour = 0;
};

class Coordinator {
 public:
  // Finds the checkpoint to resume from, makes the module, listens. Fails when the job directory's
  // checkpoints do not fit the job, the module cannot be made or the address is taken.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Make(CoordinatorOptions options);
  virtual ~Coordinator() = default;

  virtual const std::string& address() const = 0;

  // Follows the job to its end. OK: SUCCEEDED. Cancelled: interrupted (a checkpoint was committed
  // when training had begun). Else FAILED, with the one line that the user reads. All roles have
  // been told to stop when it returns.
  virtual absl::Status Run() = 0;

  // First call: finish the step, checkpoint, stop all. Second call: stop at once.
  virtual void Interrupt(const std::string& reason) = 0;

  // Replicas that went from one trainer to another. Thread-safe.
  virtual int64_t lease_moves() const = 0;

  // Ends the job as failed: a role that lives in this process could not go on. Has no effect once
  // the job has ended.
  virtual void Fail(absl::Status status) = 0;
};

}  // namespace muster::master
