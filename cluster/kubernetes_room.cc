#include "cluster/kubernetes_room.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "master/json_fields.h"

namespace muster::cluster {
namespace {

using master::Fields;
using master::Json;
using master::ParseJsonObject;

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct Suffix {
  std::string_view text;
  double factor;
};
// Longer ones first.
constexpr std::array<Suffix, 13> kSuffixes = {{{"Ki", 0x1p10},
                                               {"Mi", 0x1p20},
                                               {"Gi", 0x1p30},
                                               {"Ti", 0x1p40},
                                               {"Pi", 0x1p50},
                                               {"Ei", 0x1p60},
                                               {"m", 1e-3},
                                               {"k", 1e3},
                                               {"M", 1e6},
                                               {"G", 1e9},
                                               {"T", 1e12},
                                               {"P", 1e15},
                                               {"E", 1e18}}};

// The quantity `name`; what is none fails.
double ReadQuantity(Fields* fields, const char* name) {
  std::string text;
  fields->Read(name, &text);
  if (text.empty()) return 0;
  const std::optional<double> value = ParseQuantity(text);
  if (!value) fields->Fail(name, "a quantity");
  return value.value_or(0);
}

// What the job needs of what a quota can limit.
std::map<std::string, double> Needs(const MachineOrder& order) {
  double pods = 0, cpus = 0, bytes = 0, gpus = 0;
  for (const MachineGroup& group : order.groups) {
    const auto count = static_cast<double>(group.count);
    pods += count;
    cpus += count * group.vcpus;
    bytes += count * group.memory_gb * kGiB;
    gpus += count * static_cast<double>(group.gpus);
  }
  const auto groups = static_cast<double>(order.groups.size());
  return {{"pods", pods},
          {"count/pods", pods},
          {"count/jobs.batch", groups},
          {"services", groups},
          {"count/services", groups},
          {"cpu", cpus},
          {"requests.cpu", cpus},
          {"limits.cpu", cpus},
          {"memory", bytes},
          {"requests.memory", bytes},
          {"limits.memory", bytes},
          {"requests.nvidia.com/gpu", gpus}};
}

std::string Amount(const std::string& resource, double value) {
  if (absl::StrContains(resource, "memory")) return fmt::format("{:g} GiB", value / kGiB);
  return fmt::format("{:g}", value);
}

absl::StatusOr<Json> Items(const std::string& text) {
  ASSIGN_OR_RETURN(const Json list, ParseJsonObject(text));
  Fields fields(list);
  fields.Require("items");
  const Json* items = fields.Objects("items");
  RETURN_IF_ERROR(fields.status());
  return items == nullptr ? Json::array() : *items;
}

std::string MachineText(double cpus, double bytes, double gpus) {
  std::string text = fmt::format("{:g} vCPUs and {:g} GiB", cpus, std::floor(bytes / kGiB));
  if (gpus > 0) text += fmt::format(" and {:g} GPUs", gpus);
  return text;
}

bool Selected(const Kubernetes& kubernetes, const KubernetesNode& node) {
  return std::all_of(kubernetes.node_selector().begin(), kubernetes.node_selector().end(),
                     [&](const auto& wanted) {
                       const auto found = node.labels.find(wanted.first);
                       return found != node.labels.end() && found->second == wanted.second;
                     });
}

}  // namespace

std::optional<double> ParseQuantity(const std::string& text) {
  std::string number = text;
  double factor = 1;
  for (const Suffix& suffix : kSuffixes) {
    if (!number.ends_with(suffix.text)) continue;
    number.resize(number.size() - suffix.text.size());
    factor = suffix.factor;
    break;
  }
  double value = 0;
  if (number.empty() || number.find_first_not_of("0123456789.eE+-") != std::string::npos ||
      !absl::SimpleAtod(number, &value) || !std::isfinite(value * factor)) {
    return std::nullopt;
  }
  return value * factor;
}

absl::StatusOr<std::vector<KubernetesQuota>> ParseQuotas(const std::string& text) {
  ASSIGN_OR_RETURN(const Json items, Items(text));
  std::vector<KubernetesQuota> quotas;
  for (const Json& item : items) {
    Fields fields(item, "quota.");
    std::string name;
    if (const Json* meta = fields.Object("metadata")) {
      Fields of(*meta, "quota.metadata.");
      of.Read("name", &name);
      fields.Merge(of.status());
    }
    if (const Json* object = fields.Object("status")) {
      Fields status(*object, "quota.status.");
      const Json *hard = status.Object("hard"), *used = status.Object("used");
      if (hard != nullptr) {
        Fields limits(*hard, "quota.status.hard.");
        const Json nothing = Json::object();
        Fields uses(used == nullptr ? nothing : *used, "quota.status.used.");
        for (const auto& [resource, value] : hard->items()) {
          quotas.push_back({name, resource, ReadQuantity(&limits, resource.c_str()),
                            ReadQuantity(&uses, resource.c_str())});
        }
        status.Merge(limits.status());
        status.Merge(uses.status());
      }
      fields.Merge(status.status());
    }
    RETURN_IF_ERROR(fields.status());
  }
  return quotas;
}

absl::StatusOr<std::vector<std::string>> CheckQuotas(const MachineOrder& order,
                                                     const std::vector<KubernetesQuota>& quotas) {
  const std::map<std::string, double> needs = Needs(order);
  std::vector<std::string> lines;
  for (const KubernetesQuota& quota : quotas) {
    const auto need = needs.find(quota.resource);
    if (need == needs.end() || need->second == 0) continue;
    const std::string line =
        fmt::format("quota {}: {} of {} {} are in use, and the job needs {}", quota.name,
                    Amount(quota.resource, quota.used), Amount(quota.resource, quota.hard),
                    quota.resource, Amount(quota.resource, need->second));
    if (quota.used + need->second > quota.hard) {
      return absl::FailedPreconditionError(
          line + ": ask who runs the cluster for more, wait for other jobs, or name smaller types");
    }
    lines.push_back(line);
  }
  return lines;
}

absl::StatusOr<std::vector<KubernetesNode>> ParseNodes(const std::string& text) {
  ASSIGN_OR_RETURN(const Json items, Items(text));
  std::vector<KubernetesNode> nodes;
  for (const Json& item : items) {
    KubernetesNode node;
    Fields fields(item, "node.");
    if (const Json* object = fields.Object("metadata")) {
      Fields meta(*object, "node.metadata.");
      meta.Read("labels", &node.labels);
      fields.Merge(meta.status());
    }
    if (const Json* object = fields.Object("spec")) {
      Fields spec(*object, "node.spec.");
      bool closed = false;
      spec.Read("unschedulable", &closed);
      node.open = !closed;
      fields.Merge(spec.status());
    }
    if (const Json* object = fields.Object("status")) {
      Fields status(*object, "node.status.");
      if (const Json* room = status.Object("allocatable")) {
        Fields of(*room, "node.status.allocatable.");
        node.cpus = ReadQuantity(&of, "cpu");
        node.memory_bytes = ReadQuantity(&of, "memory");
        node.gpus = ReadQuantity(&of, "nvidia.com/gpu");
        status.Merge(of.status());
      }
      fields.Merge(status.status());
    }
    RETURN_IF_ERROR(fields.status());
    nodes.push_back(std::move(node));
  }
  return nodes;
}

absl::Status CheckNodes(const MachineOrder& order, const Kubernetes& kubernetes,
                        const std::vector<KubernetesNode>& nodes) {
  for (const MachineGroup& group : order.groups) {
    const double bytes = group.memory_gb * kGiB;
    const auto gpus = static_cast<double>(group.gpus);
    const KubernetesNode* largest = nullptr;
    bool fits = false;
    for (const KubernetesNode& node : nodes) {
      if (!node.open || !Selected(kubernetes, node)) continue;
      fits |= node.cpus >= group.vcpus && node.memory_bytes >= bytes && node.gpus >= gpus;
      if (largest == nullptr ||
          std::pair(node.gpus, node.cpus) > std::pair(largest->gpus, largest->cpus)) {
        largest = &node;
      }
    }
    if (fits) continue;
    if (largest == nullptr) {
      return absl::FailedPreconditionError(
          "no node of the cluster is open and has the labels of cluster.kubernetes.nodeSelector: "
          "see kubectl get nodes --show-labels; write autoscaled: true if such nodes come when "
          "they "
          "are asked for");
    }
    return absl::FailedPreconditionError(fmt::format(
        "no node of the cluster gives a {} the {} of its machine type {} (the largest has {}): "
        "name "
        "a smaller type, or write cluster.kubernetes.autoscaled: true if larger nodes come when "
        "they are asked for",
        RoleName(group.role), MachineText(group.vcpus, bytes, gpus), group.type,
        MachineText(largest->cpus, largest->memory_bytes, largest->gpus)));
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
