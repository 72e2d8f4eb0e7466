// Provider SLURM: a job's machines are nodes that Slurm grants it, asked for with sbatch.
//
// Owned as a Provider is (cluster/provider.h).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "cluster/slurm.h"
#include "configs/job.pb.h"

namespace muster::cluster {

class SlurmProvider : public Provider {
 public:
  // `slurm`: of the job file. `environment` (of the launcher), `program_dir` (of this program) and
  // `build_id` (the same) are for the nodes.
  SlurmProvider(Slurm slurm, ToolRunner tools, std::vector<std::string> environment,
                std::string program_dir, std::string build_id);

  std::vector<Place> Places() const override { return {Place()}; }
  absl::StatusOr<std::vector<std::string>> Check(const MachineOrder& order) override;
  absl::Status Create(const MachineOrder& order,
                      const std::function<absl::Status(const std::string&)>& before) override;
  absl::StatusOr<std::vector<Machine>> List(const std::string& job_id) override;
  absl::Status Destroy(const std::string& job_id) override;
  absl::Status End(const Machine&) override {
    return absl::UnimplementedError("a node is given back with its job");
  }
  // All nodes of a job are granted at once.
  bool CanReplace() const override { return false; }
  // What a step has started ends with it.
  bool HasKeepers() const override { return true; }
  // PRECONDITION: of the last List.
  absl::StatusOr<RunHost> Reach(const Machine& machine) override;
  absl::StatusOr<std::vector<std::string>> Terminal(const Machine& machine,
                                                    const TerminalWish& wish) const override;
  std::optional<RunHost> ReachFolder(const std::string& job_id) override;
  std::string ListCommand(const std::string& job_id) const override;

 private:
  // The output of a command of Slurm's; of --dry-run Unimplemented.
  absl::StatusOr<std::string> Ask(const std::vector<std::string>& words,
                                  const std::string& input = "") const;
  absl::StatusOr<std::vector<SlurmStatus>> Queue(const std::string& job_id) const;
  std::string Programs() const;
  std::string Folder(const std::string& job_id) const;

  const Slurm slurm_;
  const ToolRunner tools_;
  const std::vector<std::string> environment_;
  const std::string program_dir_, build_id_;
  std::string run_;                  // that Create was asked for
  std::map<std::string, int> cpus_;  // by component: of one node
};

}  // namespace muster::cluster
