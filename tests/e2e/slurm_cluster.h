// A Slurm of this machine's own for tests: one controller, four nodes of four cores each, all on
// the loopback interface; nothing of it is in the system's places.
//
// Needs root, slurm-wlm and munge. Owned by the test's thread; everything is gone with the object.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace muster::e2e {

class SlurmCluster {
 public:
  // In `folder`, which gets configuration, sockets and logs.
  explicit SlurmCluster(std::string folder);
  ~SlurmCluster();
  SlurmCluster(const SlurmCluster&) = delete;
  SlurmCluster& operator=(const SlurmCluster&) = delete;

  // Why there is none; "" when it runs.
  const std::string& problem() const { return problem_; }
  // What its commands need.
  std::map<std::string, std::string> environment() const;
  // Jobs that are queued or run: "job|name|state".
  std::vector<std::string> Queue() const;
  // Marks a node as down, or back.
  void SetNode(int node, bool up) const;
  // What `command` prints where Slurm's commands work.
  std::string Run(const std::string& command) const;

 private:
  const std::string folder_;
  std::string problem_;
};

}  // namespace muster::e2e
