// JobRun: a job from the start of its master to the end of its last role, whatever the roles are
// started as: follows it, shows it, acts on what the follower says, and writes its last record.
//
// Run is called by the launcher's main thread, which takes SIGINT, SIGTERM and SIGHUP for itself
// meanwhile. Borrows everything it is given.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cluster/local.h"
#include "cluster/role_processes.h"

namespace muster::cluster {

// Where a role lives, as far as its command line depends on it.
struct RolePlace {
  std::string job_dir;         // as its host sees it
  std::string listen_address;  // "10.0.0.3": where other roles reach it; "": this machine alone
  std::string identity;        // rpc::EncodeIdentity; "": none
  std::string data_folder;     // where data was brought to; "": nowhere
};

struct JobRunMode {
  std::string token;      // by which the run's roles know each other; "": one is made
  bool attached = false;  // the roles run already: `processes` tells of them what there was
  bool leave = false;     // detach once all roles are there and the job trains
  bool cancel = false;    // end the job as Ctrl-C does, as soon as the master is known
  std::function<void()> on_left = nullptr;  // the job goes on without this launcher
};

std::string MakeRunToken();

// Runs `job`, whose directory is locked and has its first record, to its end. `places`: by role;
// empty: all on this machine. Returns the exit code as RunLocal does; when the job goes on without
// this launcher 0, or 1 where the way to a host broke.
int RunJobRoles(const LocalJob& job, const LocalOptions& options,
                const std::vector<RolePlace>& places, RoleProcesses& processes,
                const JobRunMode& mode = {});

}  // namespace muster::cluster
