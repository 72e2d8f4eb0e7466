// Whether a Kubernetes has room for a job: quotas of the namespace, sizes of the nodes.
//
// Pure functions: thread-safe. Quantities are in the API's units: cores, bytes, pieces.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// "500m", "16Gi", "2e3"; nullopt when it is none.
std::optional<double> ParseQuantity(const std::string& text);

// One line of a quota of the namespace.
struct KubernetesQuota {
  std::string name, resource;  // "team", "requests.cpu"
  double hard = 0, used = 0;
};
// From `kubectl get resourcequotas -o json`.
absl::StatusOr<std::vector<KubernetesQuota>> ParseQuotas(const std::string& text);

// What the quotas say of the job: one line each that has a limit for something it needs. Fails when
// one does not let it have that.
absl::StatusOr<std::vector<std::string>> CheckQuotas(const MachineOrder& order,
                                                     const std::vector<KubernetesQuota>& quotas);

struct KubernetesNode {
  std::map<std::string, std::string> labels;
  bool open = true;  // to new pods
  double cpus = 0, memory_bytes = 0, gpus = 0;
};
// From `kubectl get nodes -o json`.
absl::StatusOr<std::vector<KubernetesNode>> ParseNodes(const std::string& text);

// Fails when a machine of the job fits on no node even where nothing else runs.
absl::Status CheckNodes(const MachineOrder& order, const Kubernetes& kubernetes,
                        const std::vector<KubernetesNode>& nodes);

}  // namespace muster::cluster
