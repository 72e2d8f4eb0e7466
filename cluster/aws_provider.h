// AwsProvider: machines of EC2 through the user's own `aws`. A group is one run-instances, which is
// all or nothing; its client token makes a repeated call harmless.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "cluster/aws.h"
#include "cluster/aws_deadline.h"
#include "cluster/cloud_tool.h"
#include "cluster/provider.h"

namespace muster::cluster {

class AwsProvider : public Provider {
 public:
  // `public_key`: of the launcher, which the machines let in. `reach`: the way to a host by ssh.
  // Without regions in `aws` it is the login's own. Borrows `patience`.
  AwsProvider(Aws aws, std::string public_key, ToolRunner tools, const Patience& patience,
              std::function<RunHost(const SshHost&)> reach, Shortcuts shortcuts = {});

  std::vector<Place> Places() const override { return places_; }
  absl::StatusOr<std::vector<std::string>> Check(const MachineOrder& order) override;
  absl::Status Create(const MachineOrder& order,
                      const std::function<absl::Status(const std::string& name)>& before) override;
  absl::StatusOr<std::vector<Machine>> List(const std::string& job_id) override;
  absl::Status Destroy(const std::string& job_id) override;
  absl::Status End(const Machine& machine) override;
  absl::Status Stop(const std::string& job_id) override;
  absl::StatusOr<std::string> MakeImage(const Machine& machine, const std::string& name) override;
  absl::StatusOr<std::vector<KeptImage>> Images(const std::string& name) override;
  absl::Status DeleteImage(const KeptImage& image) override;
  std::string ImageFields(const Machine& machine, const std::string& image) const override;
  std::string DeleteImageCommand(const Machine& machine, const std::string& image) const override;
  absl::StatusOr<std::vector<RegionPrice>> OnDemandPrices(
      const std::set<std::string>& types) override;
  void BeginPrices(const std::set<std::string>& on_demand,
                   const std::set<std::string>& spot) override;
  absl::StatusOr<std::vector<SpotPrice>> SpotPrices(const std::set<std::string>& types) override;
  absl::StatusOr<RunHost> Reach(const Machine& machine) override;
  std::optional<SshHost> SshHostOf(const Machine& machine) const override;
  std::string ListCommand(const std::string& job_id) const override;

 private:
  struct Image {
    std::string id, root_device;
  };

  // A question whose answer stays as it is for a day.
  struct Fact {
    std::string name;  // that it is kept under
    std::vector<std::string> words;
  };

  // What aws prints.
  absl::StatusOr<std::string> Ask(const std::vector<std::string>& words) const;
  absl::StatusOr<std::string> Ask(const std::string& region, std::vector<std::string> words) const;
  std::vector<std::string> Words(const std::string& region, std::vector<std::string> words) const;
  Fact FactOf(const std::string& region, const std::string& about,
              std::vector<std::string> words) const;
  Fact OfferingsFact(const std::string& region, const MachineOrder& order) const;
  Fact ImageIdFact(const std::string& region, const std::string& parameter) const;
  Fact ImageFact(const std::string& region, const std::string& id) const;
  std::vector<std::string> QuotaWords(const std::string& region, const std::string& code) const;
  absl::StatusOr<const Image*> ImageIn(const std::string& region);
  absl::StatusOr<std::vector<std::string>> GroupsIn(const std::string& region);
  // The zones of a region that have all types of the order.
  absl::StatusOr<std::set<std::string>> ZonesWith(const std::string& region,
                                                  const MachineOrder& order) const;
  // What Check asks for is begun all at once.
  void BeginCheck(const MachineOrder& order);
  // A line for each quota; false in `enough` when one is too small.
  std::vector<std::string> Quotas(const std::string& region, const MachineOrder& order,
                                  bool* enough) const;
  int64_t SinceMs() const;  // of spot prices
  // Ends or stops them, some hundreds at a time.
  absl::Status Tell(const std::string& region, const char* command, const char* query,
                    const std::vector<std::string>& ids) const;
  // Places of one region, those first where the spot machines of the order are cheapest.
  void CheapestFirst(const MachineOrder& order, std::vector<Place>* places);
  absl::Status MayCreate(const MachineOrder& order);

  const Aws aws_;
  const Patience& patience_;
  const std::string public_key_;
  const CloudTool tool_;
  const Ec2Deadlines deadlines_{aws_, tool_, patience_};
  const std::function<RunHost(const SshHost&)> reach_;
  std::vector<std::string> regions_;
  std::vector<Place> places_;
  std::map<std::string, Image> images_;                     // by region
  std::map<std::string, std::vector<std::string>> groups_;  // of security, by region
};

}  // namespace muster::cluster
