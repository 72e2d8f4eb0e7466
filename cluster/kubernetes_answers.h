// What kubectl says of a job's pods.
//
// Pure functions: thread-safe. Everything that is parsed comes from outside: what is not understood
// is an error or left out, never believed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct KubernetesMachines {
  std::vector<Machine> machines;  // id: the pod's name; "" for one that has not been made yet
  // Job of each machine without a pod, by its place in `machines`: Kubernetes refuses to make it.
  std::map<size_t, std::string> unmade;
};

// From `kubectl get jobs,pods -o json`.
absl::StatusOr<KubernetesMachines> ParsePods(const std::string& text);

// Why pods of jobs were not made, by job, from `kubectl get events -o json`: the latest of each.
std::map<std::string, std::string> ParseRefusals(const std::string& text);

}  // namespace muster::cluster
