// GcpProvider: machines of Compute Engine through the user's own `gcloud`. A group is one `bulk
// create`, which is all or nothing; the names that it gives make a repeated call harmless.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cluster/cloud_tool.h"
#include "cluster/gcp.h"
#include "cluster/provider.h"

namespace muster::cluster {

class GcpProvider : public Provider {
 public:
  // `public_key`: of the launcher, which the machines let in. `reach`: the way to a host by ssh.
  // Borrows `patience`.
  GcpProvider(Gcp gcp, std::string public_key, ToolRunner tools, const Patience& patience,
              std::function<RunHost(const SshHost&)> reach, Shortcuts shortcuts = {});

  std::vector<Place> Places() const override { return places_; }
  absl::StatusOr<std::vector<std::string>> Check(const MachineOrder& order) override;
  absl::Status Create(const MachineOrder& order,
                      const std::function<absl::Status(const std::string& name)>& before) override;
  // In the whole project.
  absl::StatusOr<std::vector<Machine>> List(const std::string& job_id) override;
  absl::Status Destroy(const std::string& job_id) override;
  absl::Status End(const Machine& machine) override;
  absl::Status Stop(const std::string& job_id) override;
  absl::StatusOr<std::string> MakeImage(const Machine& machine, const std::string& name) override;
  absl::StatusOr<std::vector<KeptImage>> Images(const std::string& name) override;
  absl::Status DeleteImage(const KeptImage& image) override;
  std::string ImageFields(const Machine& machine, const std::string& image) const override;
  std::string DeleteImageCommand(const Machine& machine, const std::string& image) const override;
  absl::StatusOr<RunHost> Reach(const Machine& machine) override;
  std::optional<SshHost> SshHostOf(const Machine& machine) const override;
  std::string ListCommand(const std::string& job_id) const override;

 private:
  // What gcloud prints.
  absl::StatusOr<std::string> Ask(const std::vector<std::string>& words) const;
  // A question whose answer stays as it is for a day.
  struct Fact {
    std::string name;  // that it is kept under
    std::vector<std::string> words;
  };
  Fact ImageFact() const;
  Fact MachineTypesFact(const std::vector<Place>& candidates, const MachineOrder& order) const;
  // What Check asks for is begun all at once.
  void BeginCheck(const MachineOrder& order) const;
  absl::Status CheckImage() const;
  // The command that asks for a larger quota.
  std::string AskForMore(const std::string& metric, const std::string& region, double value) const;
  // A line for the project's quota of GPUs, if it is needed; false in `enough` when it is too
  // small.
  std::vector<std::string> ProjectQuota(const MachineOrder& order, bool* enough) const;
  // A line for each quota of a region; false in `enough` when one is too small.
  std::vector<std::string> Quotas(const std::string& name, const GceRegion& region,
                                  const MachineOrder& order, bool* enough) const;
  // Those of `candidates` that have all types of the order.
  absl::StatusOr<std::vector<Place>> Having(const std::vector<Place>& candidates,
                                            const MachineOrder& order) const;
  absl::Status CreateGroup(
      const MachineOrder& order, const MachineGroup& group,
      const std::function<absl::Status(const std::string& name)>& before) const;
  absl::Status Delete(const std::string& zone, const std::vector<std::string>& names) const;
  // `command`: delete, or stop with what it takes; some hundreds at a time.
  absl::Status Tell(const std::vector<std::string>& command, const std::string& zone,
                    const std::vector<std::string>& names) const;

  const Gcp gcp_;
  const Patience& patience_;
  const std::string public_key_;
  const CloudTool tool_;
  const std::function<RunHost(const SshHost&)> reach_;
  std::vector<std::string> regions_;
  std::vector<Place> places_;
};

}  // namespace muster::cluster
