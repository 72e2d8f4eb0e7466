// An EC2 for tests of provider AWS (tests/e2e/fake_aws.py): moto's, with a machine behind each
// instance, for the real `aws`.
//
// Needs root, moto, aws, iproute2, util-linux and openssh. Owned by the test's thread; everything
// is gone with the object.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/programs.h"

namespace muster::e2e {

class AwsCloud {
 public:
  explicit AwsCloud(std::string folder);
  ~AwsCloud();
  AwsCloud(const AwsCloud&) = delete;
  AwsCloud& operator=(const AwsCloud&) = delete;

  // Why there is none; "" when it answers.
  const std::string& problem() const { return problem_; }
  // For whoever is to use it; `home`: of launches, which keep their journals there.
  std::map<std::string, std::string> environment(const std::string& home) const;
  // `cluster` of a job file, in flow style, with `more` settings of aws.
  static std::string Cluster(const std::string& more = "");

  // The ids of instances that have a machine.
  std::vector<std::string> Machines() const;
  // The actions that were asked for since this was last called.
  std::vector<std::string> Asked() const;
  // What is to go wrong from now on: a list in JSON, see fake_aws.py.
  void SetFaults(const std::string& json) const;
  // Those that are spot.
  std::vector<std::string> SpotMachines() const;
  // The cloud takes a machine back: so many seconds after it has given notice (to one that is
  // spot), or (none) at once and without a word.
  void TakeBack(const std::string& id, std::optional<int> notice_s) const;
  // A machine dies without a word.
  void Kill(const std::string& id) const;
  // It starts again, without what ran on it.
  void Restart(const std::string& id) const;
  // The scripts that disks, also those that are gone, have for each start.
  std::vector<std::string> AtStart() const;
  // The entries of EventBridge Scheduler, as fake_aws.py tells of them.
  std::vector<std::string> Schedules() const;
  // Its network is cut, or there again; nobody is told.
  void SetLink(const std::string& id, bool up) const;
  // How much faster than it says `shutdown -P +minutes` waits on a machine.
  void SetSpeed(int times) const;
  // The same for what a machine's first script sleeps, and how many seconds that has been on the
  // first machine, by its own count.
  void SetSleepSpeed(int times) const;
  int Slept() const;
  // What nvidia-smi says there of the driver.
  void SetDriver(const std::string& text) const;

 private:
  std::string Ask(const std::string& path, const std::string& body = "") const;

  const std::string folder_;
  std::string problem_, aws_folder_;
  int port_ = 0;
  std::unique_ptr<Running> server_;
};

}  // namespace muster::e2e
