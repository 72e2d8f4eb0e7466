// A Kubernetes for tests: an API server of our own (tests/e2e/kubernetes), which the real kubectl
// talks to, and whose pods run on this machine, each with its own network, address and home.
//
// Needs root, kubectl, iproute2 and python3. Owned by the test's thread; everything is gone with
// the object.
#pragma once

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace muster::e2e {

class KubernetesCluster {
 public:
  // In `folder`, which gets kubectl's configuration and the folder that is each pod's home. Four
  // nodes of 4 cores and 16 GiB, and with what `more` adds (api_server.py --help).
  explicit KubernetesCluster(std::string folder, const std::string& more = "");
  ~KubernetesCluster();
  KubernetesCluster(const KubernetesCluster&) = delete;
  KubernetesCluster& operator=(const KubernetesCluster&) = delete;

  // Why there is none; "" when it runs.
  const std::string& problem() const { return problem_; }
  // What kubectl needs.
  std::map<std::string, std::string> environment() const;
  // Each pod's home, as it sees it.
  std::string home() const { return folder_ + "/home"; }
  // What `kubectl words` prints, stdout and stderr.
  std::string Kubectl(const std::string& words) const;
  // Objects of jobs: "pod/NAME", "job.batch/NAME", "service/NAME".
  std::vector<std::string> Objects() const;
  // Names of the processes that run in pods, but for the pods' own.
  std::vector<std::string> Processes() const;
  // Changes the cluster as api_server.py's /test says.
  void Change(const std::string& json) const;
  // What it was asked, "POST jobs" …
  std::string Log() const;

 private:
  const std::string folder_;
  std::string name_;
  std::FILE* server_ = nullptr;  // its input
  std::string problem_;
};

}  // namespace muster::e2e
