// A Compute Engine for tests of provider GCP (tests/e2e/fake_gcp.py), with a machine behind each
// instance, for the real `gcloud`.
//
// Needs root, gcloud, curl, iproute2, util-linux and openssh. Owned by the test's thread;
// everything is gone with the object.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/programs.h"

namespace muster::e2e {

class GcpCloud {
 public:
  explicit GcpCloud(std::string folder);
  ~GcpCloud();
  GcpCloud(const GcpCloud&) = delete;
  GcpCloud& operator=(const GcpCloud&) = delete;

  // Why there is none; "" when it answers.
  const std::string& problem() const { return problem_; }
  // For whoever is to use it; `home`: of launches, which keep their journals there.
  std::map<std::string, std::string> environment(const std::string& home) const;
  // `cluster` of a job file, in flow style.
  static std::string Cluster();

  // The names of instances that have a machine.
  std::vector<std::string> Machines() const;
  // What was asked for the first of them, in JSON.
  std::string Asked() const;
  // The actions that were asked for since this was last called.
  std::vector<std::string> Actions() const;
  // What is to go wrong from now on: a list in JSON, see fake_gcp.py.
  void SetFaults(const std::string& json) const;
  // Those that are spot.
  std::vector<std::string> SpotMachines() const;
  // The cloud takes a spot machine back: so many seconds after it has given notice, or (none) at
  // once and without a word.
  void TakeBack(const std::string& id, std::optional<int> notice_s) const;
  // How much faster than it says a machine's maxRunDuration ends.
  void SetSpeed(int times) const;
  // The same for what a machine's startup script sleeps.
  void SetSleepSpeed(int times) const;
  // Of the first machine, as the cloud calls it.
  std::string StateOfMachine() const;

 private:
  std::string Ask(const std::string& path, const std::string& body = "") const;

  const std::string folder_;
  std::string problem_;
  int port_ = 0;
  std::unique_ptr<Running> server_;
};

}  // namespace muster::e2e
