#include "master/replica_table.h"

namespace muster::master {

std::vector<ReplicaState> ReplicaTable(const MasterProcess& master,
                                       const std::vector<Member>& members,
                                       const std::optional<absl::Status>& ended, int64_t now_ms) {
  const bool succeeded = ended.has_value() && ended->ok();
  std::vector<ReplicaState> replicas(1);
  replicas[0].role = "master";
  replicas[0].pids = {master.pid};
  replicas[0].state = ended.has_value() ? "FINISHED" : "READY";
  replicas[0].last_seen_ms = now_ms;
  replicas[0].host = master.host;
  if (!master.metrics_address.empty()) replicas[0].metrics = {master.metrics_address};
  for (const Member& member : members) {
    const bool chief = member.role.kind == RoleId::Kind::kChief;
    if (member.role.kind == RoleId::Kind::kServer && master.hosts_server) continue;
    ReplicaState& replica = chief ? replicas.front() : replicas.emplace_back();
    if (!chief) {
      replica.role = KindName(member.role.kind);
      replica.index = member.role.index;
      replica.state = succeeded && !IsGone(member) ? "FINISHED" : MemberStateName(member.state);
      replica.host = member.host;
      replica.last_seen_ms = member.last_seen_ms;
    }
    // In a job of one process the chief has the master's pid.
    if (member.pid != 0 && (!chief || member.pid != master.pid)) replica.pids.push_back(member.pid);
    if (!member.metrics_address.empty() && member.metrics_address != master.metrics_address) {
      replica.metrics.push_back(member.metrics_address);
    }
    replica.device = member.device;
    if (IsTrainer(member.role)) {
      replica.leases = member.leases;
      replica.step = member.clock;
    }
  }
  return replicas;
}

}  // namespace muster::master
