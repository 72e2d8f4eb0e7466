// An EC2 for tests of provider AWS (tests/e2e/fake_aws.py): moto's, with a machine behind each
// instance, for the real `aws`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/e2e/played_cloud.h"

namespace muster::e2e {

class AwsCloud : public PlayedCloud {
 public:
  explicit AwsCloud(std::string folder);

  // For whoever is to use it; `home`: of launches, which keep their journals there.
  std::map<std::string, std::string> environment(const std::string& home) const;
  // `cluster` of a job file, in flow style, with `more` settings of aws.
  static std::string Cluster(const std::string& more = "");

  // A machine starts again, without what ran on it.
  void Restart(const std::string& id) const;
  // The scripts that disks, also those that are gone, have for each start.
  std::vector<std::string> AtStart() const;
  // The entries of EventBridge Scheduler, as fake_aws.py tells of them.
  std::vector<std::string> Schedules() const;
  // Its network is cut, or there again; nobody is told.
  void SetLink(const std::string& id, bool up) const;
  // How many seconds the first script has slept on the first machine, by its own count.
  int Slept() const;
  // What nvidia-smi says there of the driver.
  void SetDriver(const std::string& text) const;

 private:
  std::string aws_folder_;
};

}  // namespace muster::e2e
