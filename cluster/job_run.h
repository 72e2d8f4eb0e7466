// JobRun: a job from the start of its master to the end of its last role, whatever the roles are
// started as: follows it, shows it, acts on what the follower says, and writes its last record.
//
// Run is called by the launcher's main thread, which takes SIGINT, SIGTERM and SIGHUP for itself
// meanwhile. Borrows everything it is given.
#pragma once

#include "cluster/local.h"
#include "cluster/role_processes.h"

namespace muster::cluster {

// Where a role lives, as far as its command line depends on it.
struct RolePlace {
  std::string job_dir;         // as its host sees it
  std::string listen_address;  // "10.0.0.3": where other roles reach it; "": this machine alone
  std::string identity;        // rpc::EncodeIdentity; "": none
};

// Runs `job`, whose directory is locked and has its first record, to its end. `places`: by role;
// empty: all on this machine. Returns the exit code as RunLocal does.
int RunJobRoles(const LocalJob& job, const LocalOptions& options,
                const std::vector<RolePlace>& places, RoleProcesses& processes);

}  // namespace muster::cluster
