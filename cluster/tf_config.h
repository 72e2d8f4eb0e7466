// TF_CONFIG: the environment variable by which training programs learn their place in the cluster.
// A pure function, thread-safe.
#pragma once

#include <string>
#include <vector>

namespace muster::cluster {

struct TfCluster {
  std::string master_address;  // "127.0.0.1:43567"
  int workers = 0, servers = 0;
  bool use_chief = false;         // trainingInput.useChiefInTfConfig: "chief" instead of "master"
  std::string job_name;           // the module
  std::vector<std::string> args;  // trainingInput.args
};

// {"job": {"job_name", "args"}, "task": {"type", "index"}, "cluster": {"master", "worker", "ps"},
// "environment": "cloud"} for the process `role` ("master", "chief", "worker", "ps") `index`. The
// chief trainer is the task master 0. A job of one process has an empty cluster and task. Ports
// that the system chooses later are given as 0.
std::string TfConfig(const TfCluster& cluster, const std::string& role, int index);

}  // namespace muster::cluster
