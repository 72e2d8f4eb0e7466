// Provider SSH: the hosts that the job file names, reached with the user's ssh. It makes nothing
// and gives nothing back. And the way to any host by ssh, which other providers' machines have too.
//
// Owned as a Provider is (cluster/provider.h); the free functions are thread-safe.
#pragma once

#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// The way to `launch node` on a host. `program`: the path of ssh. Borrows `ssh` until the link has
// ended.
RunHost SshRunHost(const Ssh& ssh, const SshHost& host, const std::string& program,
                   const std::vector<std::string>& environment, const std::string& build_id);

// The path of the user's ssh. Fails where there is none.
absl::StatusOr<std::string> FindSsh(const std::vector<std::string>& environment);

class SshProvider : public Provider {
 public:
  // `ssh`: of the job file. `environment`: of the launcher. `build_id`: of this program.
  SshProvider(Ssh ssh, std::vector<std::string> environment, std::string build_id);

  std::vector<Place> Places() const override { return {Place()}; }
  // Whether there is an ssh; hosts are looked at when they are reached, all of them at once.
  absl::StatusOr<std::vector<std::string>> Check(const MachineOrder& order) override;
  absl::Status Create(const MachineOrder&,
                      const std::function<absl::Status(const std::string&)>&) override {
    return absl::OkStatus();
  }
  // The hosts, whatever the job: its roles take one after the other (PlaceRoles).
  absl::StatusOr<std::vector<Machine>> List(const std::string& job_id) override;
  absl::Status Destroy(const std::string&) override { return absl::OkStatus(); }
  absl::Status End(const Machine&) override {
    return absl::UnimplementedError("a host of the user's own is not ended");
  }
  bool CanReplace() const override { return false; }
  absl::StatusOr<RunHost> Reach(const Machine& machine) override;
  std::optional<SshHost> SshHostOf(const Machine& machine) const override {
    return ssh_.hosts(machine.index);
  }
  std::string ListCommand(const std::string&) const override { return "see cluster.ssh.hosts"; }

 private:
  const Ssh ssh_;
  const std::vector<std::string> environment_;
  const std::string build_id_;
};

}  // namespace muster::cluster
