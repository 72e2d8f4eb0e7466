// ReplicaTable: the members of a job as state.json lists them.
//
// A pure function over values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "master/job_state.h"
#include "master/membership.h"
#include "telemetry/status.h"

namespace muster::master {

// The process that the coordinator lives in.
struct MasterProcess {
  std::string host;
  int64_t pid = 0;
  bool hosts_server = false;  // the one server runs in it too
  std::string metrics_address = {};
};

// The master first, then workers and servers. The chief trains on the master's machine and stands
// in its entry, and so does a server that the master hosts. `ended`: how the run ended, if it did.
std::vector<ReplicaState> ReplicaTable(const MasterProcess& master,
                                       const std::vector<Member>& members,
                                       const std::optional<absl::Status>& ended, int64_t now_ms);

}  // namespace muster::master
