// LocalProcesses: the roles of a run as children of this process, which never outlive it.
//
// Owned by one thread, the process's main thread (cluster/process.h).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/idle_watch.h"
#include "cluster/machine_use.h"
#include "cluster/process.h"
#include "cluster/role_processes.h"
#include "cluster/status_pipe.h"

namespace muster::cluster {

class LocalProcesses : public RoleProcesses {
 public:
  // `program_dir`: where master, worker and ps lie. `environment`: "NAME=value", what every role
  // gets beside its own. Fails when the system gives no pipe.
  static absl::StatusOr<std::unique_ptr<LocalProcesses>> Make(std::string program_dir,
                                                              std::vector<std::string> environment);
  ~LocalProcesses() override;

  // The master inherits a duplicate of the job directory's lock, so that the directory is free only
  // when it, too, is gone. Before it is started.
  void GiveLock(int lock_fd) { lock_fd_ = lock_fd; }
  // From now on Collect tells how busy this machine is, as often as `limit` needs.
  void WatchUse(const IdleLimit& limit);

  void Start(size_t role, const RoleCommand& command) override;
  void Signal(size_t role, int signal) override;
  void Kill(size_t role) override;
  void Watch(std::vector<pollfd>* fds) const override;
  void Collect(Listener& listener) override;

 private:
  LocalProcesses(std::string program_dir, std::vector<std::string> environment,
                 std::unique_ptr<StatusPipe> status, int lifeline_read, int lifeline_write);
  std::vector<std::string> Environment(const RoleCommand& command) const;

  const std::string program_dir_;
  const std::vector<std::string> environment_;
  const std::unique_ptr<StatusPipe> status_;
  const int lifeline_read_, lifeline_write_;  // the writing end stays open in this process alone
  int lock_fd_ = -1;
  std::map<size_t, std::unique_ptr<Process>> processes_;  // by role
  std::vector<size_t> started_;                           // not told yet
  std::vector<std::string> errors_;
  std::unique_ptr<MachineUse> use_;  // null: nobody asks
};

}  // namespace muster::cluster
