// A scope of systemd: has this process, and whatever it will start, counted as a unit of its own
// and no more as part of the login that has begun it. Where logind ends what a login leaves behind
// (KillUserProcesses), a job that was left goes on, and `systemctl status` shows it.
//
// Free functions; to be called before there is anything else to watch.
#pragma once

#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::cluster {

// What tests put something else in place of.
struct SystemdPlaces {
  std::string booted = "/run/systemd/system";      // is there when systemd runs the machine
  std::string linger = "/var/lib/systemd/linger";  // users whose systemd outlives their logins
  std::string own = "/proc/self/cgroup";           // which unit this process is part of
};

// Enters a scope that is gone with its last process: of the machine's systemd for root, else of the
// user's, where that one lingers. False, and without effect, where there is neither. `environment`:
// "NAME=value", where busctl is found. Fails with what systemd says. Blocks for 10 s at most.
absl::StatusOr<bool> EnterScope(const SystemdPlaces& places,
                                const std::vector<std::string>& environment,
                                const std::string& description);

// Whether logind ends what this user's logins leave behind, and this process with it, unless it has
// a scope of its own. False where nobody answers. Blocks for 5 s at most.
bool LoginEndsAll(const SystemdPlaces& places, const std::vector<std::string>& environment);

}  // namespace muster::cluster
