// RentedJob: a job on machines that were made for it, from when they are there until it has ended
// or goes on without this launcher: runs it, keeps its bill, has a steward replace what is lost,
// and runs it again from its newest checkpoint where it ended for want of machines. Making the
// machines and giving them back is the caller's (cluster/provider_run.cc).
//
// For the launcher's main thread. Borrows what its options refer to.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/hosts_run.h"
#include "cluster/job_rent.h"
#include "cluster/journal.h"
#include "cluster/left_machines.h"
#include "cluster/machine_steward.h"
#include "cluster/node_set.h"
#include "cluster/provider.h"
#include "cluster/provider_run.h"

namespace muster::cluster {

class RentedJob {
 public:
  struct Options {
    const ProviderRun& run;
    const LocalOptions& local;
    const LocalJob& draft;
    Provider& provider;
    MachineJournal& journal;  // of the machines
    const Patience& patience;
    std::string job_folder;  // on the machines
    std::string region;      // of the machines
    int interrupts;          // the descriptor that patience waits at
  };
  explicit RentedJob(Options options);

  // Runs it on `machines`, which began at `began_ms` of MonotonicMillis; where there are none, the
  // user has interrupted. Exit codes and failures as RunOnHosts'.
  absl::StatusOr<int> Run(const MachineOrder& order, const std::vector<Machine>& machines,
                          int64_t began_ms);
  // Follows it on the machines that it was left on, `spans` of bill.json, or ends it. Of one that
  // has ended, the results are fetched. Exit codes and failures as AttachToHosts'.
  absl::StatusOr<int> Attach(MachineOrder order, const LeftMachines& left,
                             const std::vector<RentedSpan>& spans, bool cancel);

  bool reached() const { return reached_; }  // the machines were
  bool left() const { return left_; }        // the job goes on without this launcher
  // "; about $0.12" that it has cost; "" where nothing is known of that.
  std::string CostText() const;
  // In bill.json: all its machines are given back now, or stopped.
  void NoteGivenBack() const { rent_.NoteGivenBack(); }

 private:
  void Say(const std::string& line) const { Tell(options_.local, line); }
  const Cluster& cluster() const { return options_.run.cluster; }
  JobRent::Options RentOptions() const;
  MachineSteward::Options StewardOptions(MachineOrder order, int64_t max_running_ms);

  // Runs the job, and again from its newest checkpoint where it ended for want of machines that are
  // found or replaced. `first`: instead of the first run; may be null.
  absl::StatusOr<int> RunUntilDone(int64_t max_running_ms, MachineSteward& steward,
                                   std::function<absl::StatusOr<int>()> first);
  absl::StatusOr<int> RunOnce(int64_t max_running_ms, MachineSteward& steward);
  absl::StatusOr<int> Follow(MachineOrder order, const LeftMachines& left,
                             std::vector<size_t> bills, bool cancel);
  // Ends machines in whose place others have come already.
  void EndSuperseded(const std::vector<Machine>& superseded) const;

  absl::StatusOr<HostsRun> MakeHosts(const std::vector<Machine>& machines, int64_t max_running_ms);
  // Of those whose trainers compute on GPUs.
  absl::Status CheckDriversOf(const std::vector<Machine>& machines, const HostsRun& run) const;
  // A machine in a lost one's place, in a process of its own.
  absl::Status Prepare(const Machine& machine, const cluster::Say& say) const;

  const Options options_;
  JobRent rent_;
  bool reached_ = false;
  bool left_ = false;
};

}  // namespace muster::cluster
