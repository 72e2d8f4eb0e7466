// RoleProcesses: what the roles of a run are started as, and what is seen of them: children of the
// launcher (cluster/local_processes.h), or of `launch node` on other hosts
// (cluster/node_processes.h).
//
// Owned by one thread. A role is named by its index in the run's list; the master is 0.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "cluster/process.h"
#include "master/status_line.h"
#include "telemetry/status.h"

namespace muster::cluster {

// How a role is started. Values only, so that it can travel to another host.
struct RoleCommand {
  std::string name;     // "worker-2"
  std::string program;  // in the folder of programs: "worker"
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;  // beside that of its host
  std::string log_path;                                          // stdout and stderr are appended
  int64_t log_bytes = 0;   // of its log on the launcher's machine
  bool is_master = false;  // its status lines are wanted, and it holds the job directory's lock
};

// How roles go on without this process.
struct LeaveTerms {
  int64_t stop_in_ms =
      0;  // then they end in order, for `stop_reason`; 0: by the running time alone
  int64_t until_in_ms = 0;  // on hosts that are given back: how long what they have written is kept
  std::string stop_reason;
};

class RoleProcesses {
 public:
  // Called from Collect alone.
  class Listener {
   public:
    virtual ~Listener() = default;
    // `age_ms`: since then.
    virtual void OnStarted(size_t role, int64_t age_ms) = 0;
    // `age_ms`: since it was said.
    virtual void OnStatusLine(const absl::StatusOr<master::StatusLine>& line, int64_t age_ms) = 0;
    // Whether to look at what the role has done so far, which costs a read, and tell OnActivity.
    virtual bool WantsActivity(size_t role) const = 0;
    virtual void OnActivity(size_t role, const ProcessActivity& activity) = 0;
    // After every status line that the master wrote before; the master's own exit comes last of
    // those that are seen together: others may have taken it along.
    virtual void OnExit(size_t role, pid_t pid, const ExitStatus& status) = 0;
    // How busy a machine of the run was lately, from 0 to 1; by its place among them.
    virtual void OnMachineUsed(size_t /*machine*/, double /*share*/) {}
    // A role cannot be started.
    virtual void OnError(const std::string& text) = 0;
    // Whether the run can do without a role whose host is gone.
    virtual bool CanDoWithout(size_t /*role*/) const { return false; }
    // There is no way any more to a host that the run cannot do without. `goes_on`: the job may all
    // the same, without its launcher; else the exits of what ran there are told.
    virtual void OnHostLost(const std::string& text, bool /*goes_on*/) { OnError(text); }
    // The host of a role is taken back at that time (Unix); the role was told to end.
    virtual void OnMachineEnds(size_t /*role*/, int64_t /*ends_ms*/) {}
    // A role is gone with its host, for which another is looked for, or which the run does without.
    virtual void OnAway(size_t /*role*/, const std::string& /*why*/) {}
    // There is a host for it (again): it may be started. `job_dir`, `address`: as RolePlace.
    virtual void OnHostBack(size_t /*role*/, const std::string& /*job_dir*/,
                            const std::string& /*address*/) {}
    // For the user.
    virtual void OnMessage(const std::string& /*text*/) {}
  };

  // Ends whatever still runs.
  virtual ~RoleProcesses() = default;

  // How many machines it has roles on.
  virtual size_t machines() const { return 1; }
  // Its outcome, OnStarted or OnError, is told by Collect.
  virtual void Start(size_t role, const RoleCommand& command) = 0;
  // Sends `signal` to the role's process alone; nothing once it has ended.
  virtual void Signal(size_t role, int signal) = 0;
  // SIGKILL to it and whatever it has started.
  virtual void Kill(size_t role) = 0;

  // Adds what becomes readable when there is something to collect.
  virtual void Watch(std::vector<pollfd>* fds) const = 0;
  // Tells what has happened since the last call, without blocking.
  virtual void Collect(Listener& listener) = 0;
  // Why the roles cannot go on without this process; OK when they can.
  virtual absl::Status CanDetach() const {
    return absl::FailedPreconditionError("its roles are processes of its launcher and end with it");
  }
  // Has them go on: destroying this ends nothing any more. Fails when a host does not agree.
  virtual absl::Status Detach(const LeaveTerms& /*terms*/) { return CanDetach(); }
  // Brings what the roles have written into the job's directory to this machine. Once all have
  // ended.
  virtual absl::Status Gather() { return absl::OkStatus(); }
};

}  // namespace muster::cluster
