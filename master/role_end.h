// The end of the link to the master that the roles' main functions (master/roles.h) have.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "master/agent.h"
#include "master/remote_files.h"
#include "master/roles.h"
#include "telemetry/mutex.h"
#include "telemetry/trace.h"

namespace muster::master {

// Commands from the master, in order, until the link is lost. Thread-safe.
class Inbox {
 public:
  // What puts the commands of an agent here. Borrows this.
  Agent::Events events();
  // The next command; Unavailable when the link is lost and there is none left.
  absl::StatusOr<MasterMessage> Take();
  // Whether the master has told this role to pause or stop, or is gone.
  bool CallsOff() const;

 private:
  mutable Mutex mu_;
  CondVar arrived_;
  std::deque<MasterMessage> commands_ ABSL_GUARDED_BY(mu_);
  absl::Status lost_ ABSL_GUARDED_BY(mu_);
};

// A log whose warnings the user sees too. As thread-safe as the log; borrows both.
class TellingLog : public Log {
 public:
  TellingLog(Log& log, Agent& agent) : log_(log), agent_(agent) {}
  void Write(Level level, std::string_view text) override;

 private:
  Log& log_;
  Agent& agent_;
};

// Tells the master what broke. `stays`: this trainer can begin anew, and waits for what it is told.
void SendFailure(Agent& agent, const absl::Status& status, bool stays = false);
// The role is over. Unless it ended in order, tells the log and the master why, and stays until
// that ends the role, so that its line reaches the user before this process is seen to exit.
void EndRole(const RoleOptions& options, const absl::Status& status, Inbox& inbox, Agent& agent);
// OK, or Cancelled with the reason.
absl::Status StopStatus(const Stop& stop);

Register Registration(const RoleOptions& options, const std::string& params_address,
                      const std::string& device);
// Shows what `append` knows on the role's page, if there is one, as long as the handle lives.
std::shared_ptr<void> ShowMetrics(const RoleOptions& options, MetricSource append);
// Leaves the role's part of the job's trace, if there is to be one. Not to have it never fails a
// job.
void LeaveTrace(const Trace* trace, const RoleOptions& options, const std::string& folder,
                const RemoteFiles& files, Agent& agent);

}  // namespace muster::master
