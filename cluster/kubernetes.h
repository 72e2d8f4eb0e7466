// Provider KUBERNETES: a job's machines are pods, asked for with the user's own kubectl.
//
// Owned as a Provider is (cluster/provider.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"

namespace muster::cluster {

class KubernetesProvider : public Provider {
 public:
  // `kubernetes`: of the job file. `environment` (of the launcher) and `build_id` (of this program,
  // which a pod's must have) are for Reach.
  KubernetesProvider(Kubernetes kubernetes, ToolRunner tools, std::vector<std::string> environment,
                     std::string build_id);

  std::vector<Place> Places() const override { return {Place()}; }
  absl::StatusOr<std::vector<std::string>> Check(const MachineOrder& order) override;
  absl::Status Create(const MachineOrder& order,
                      const std::function<absl::Status(const std::string&)>& before) override;
  absl::StatusOr<std::vector<Machine>> List(const std::string& job_id) override;
  absl::Status Destroy(const std::string& job_id) override;
  absl::Status End(const Machine&) override {
    return absl::UnimplementedError("a pod is ended with its job");
  }
  // All pods of a role are one Job.
  bool CanReplace() const override { return false; }
  absl::StatusOr<RunHost> Reach(const Machine& machine) override;
  absl::StatusOr<std::vector<std::string>> Terminal(const Machine& machine,
                                                    const TerminalWish& wish) const override;
  std::string ListCommand(const std::string& job_id) const override;

 private:
  // Runs kubectl with `more`; up to `tries` times, as long as there is no answer.
  absl::StatusOr<ToolResult> Run(const std::vector<std::string>& more, int tries,
                                 const std::string& input = "") const;
  // The output of a command that succeeds.
  absl::StatusOr<std::string> Ask(const std::vector<std::string>& more, int tries = 1,
                                  const std::string& input = "") const;
  absl::Status CheckPermissions() const;
  // Whether JobSet is there, for this user, too.
  absl::StatusOr<bool> HasJobSets();

  const Kubernetes kubernetes_;
  const ToolRunner tools_;
  const std::vector<std::string> environment_;
  const std::string build_id_;
  std::optional<bool> has_jobsets_;
};

}  // namespace muster::cluster
