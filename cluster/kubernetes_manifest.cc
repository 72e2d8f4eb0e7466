#include "cluster/kubernetes_manifest.h"

#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <utility>

#include "kernels/philox.h"
#include "master/json_fields.h"

namespace muster::cluster {
namespace {

using master::DumpJson;
using master::Json;

constexpr int kLookSeconds = 5;
constexpr int kIdleSeconds = 60;
constexpr int kUnreachedSeconds = 1800;
// Longer than anybody waits for nodes.
constexpr int64_t kWaitSeconds = 7 * 86'400;
// After a job's end its objects stay for a look at them.
constexpr int kKeepSeconds = 600;
constexpr int kGraceSeconds = 5;
constexpr size_t kLabelSize = 63;
// Of a name, so that pods' host names, which add role and index, are labels.
constexpr size_t kNameSize = 30;

// Process 1 of a pod: nothing but what it traps ends it. Whoever comes says so (ShellWords), since
// a visit may be shorter than the time between two looks. While it looks it has no children, so
// whatever else runs was brought in by kubectl exec.
std::string HolderScript() {
  return fmt::format(
      "trap 'exit 0' TERM INT\n"
      "idle=0 limit={}\n"
      "trap 'idle=0 limit={}' USR1\n"
      "while [ $idle -lt $limit ]; do\n"
      "  sleep {} & wait $!\n"
      "  idle=$((idle + {}))\n"
      "  set -- /proc/[0-9]*\n"
      "  [ $# -eq 1 ] || idle=0\n"
      "done\n",
      kUnreachedSeconds, kIdleSeconds, kLookSeconds, kLookSeconds);
}

Json Labels(const MachineOrder& order, Role role) {
  return {{kJobLabel, JobLabel(order.job_id)},
          {kRoleLabel, RoleName(role)},
          {kAttemptLabel, std::to_string(order.attempt)}};
}

Json Annotations(const MachineOrder& order) {
  return {{kJobIdAnnotation, order.job_id}, {kOwnerAnnotation, order.owner}};
}

Json Meta(const std::string& name, const Json& labels, const MachineOrder& order) {
  Json meta;
  if (!name.empty()) meta["name"] = name;
  meta["labels"] = labels;
  meta["annotations"] = Annotations(order);
  return meta;
}

Json Resources(const MachineGroup& group) {
  Json resources = {{"cpu", std::to_string(group.vcpus)},
                    {"memory", fmt::format("{}Mi", std::llround(group.memory_gb * 1024))}};
  if (group.gpus > 0) resources["nvidia.com/gpu"] = std::to_string(group.gpus);
  return resources;
}

Json Tolerations(const MachineGroup& group, const Kubernetes& kubernetes) {
  Json tolerations = Json::array();
  for (const Toleration& given : kubernetes.tolerations()) {
    Json toleration = Json::object();
    if (!given.key().empty()) toleration["key"] = given.key();
    toleration["operator"] = given.operator_().empty() ? "Equal" : given.operator_();
    if (!given.value().empty()) toleration["value"] = given.value();
    if (!given.effect().empty()) toleration["effect"] = given.effect();
    tolerations.push_back(std::move(toleration));
  }
  // Nodes with GPUs commonly keep pods away that do not ask for one.
  if (group.gpus > 0) tolerations.push_back({{"key", "nvidia.com/gpu"}, {"operator", "Exists"}});
  return tolerations;
}

std::string ImageOf(const MachineGroup& group, const Kubernetes& kubernetes) {
  if (!group.image.empty()) return group.image;
  return kubernetes.image().empty() ? kDefaultImage : kubernetes.image();
}

Json PodSpec(const MachineGroup& group, const Kubernetes& kubernetes, int64_t lifetime_s) {
  const Json resources = Resources(group);
  Json container = {{"name", kContainer},
                    {"image", ImageOf(group, kubernetes)},
                    {"command", {"sh", "-c", HolderScript()}},
                    {"resources", {{"requests", resources}, {"limits", resources}}},
                    {"securityContext", {{"allowPrivilegeEscalation", false}}}};
  // Images that are not CUDA's do not ask for the driver's libraries.
  if (group.gpus > 0) {
    container["env"] =
        Json::array({{{"name", "NVIDIA_DRIVER_CAPABILITIES"}, {"value", "compute,utility"}}});
  }
  Json spec = {{"restartPolicy", "Never"},
               {"terminationGracePeriodSeconds", kGraceSeconds},
               {"activeDeadlineSeconds", lifetime_s},
               // Roles need nothing of the cluster, and get no key to it.
               {"automountServiceAccountToken", false},
               {"enableServiceLinks", false},
               {"securityContext", {{"seccompProfile", {{"type", "RuntimeDefault"}}}}}};
  for (const auto& [key, value] : kubernetes.node_selector()) spec["nodeSelector"][key] = value;
  Json tolerations = Tolerations(group, kubernetes);
  if (!tolerations.empty()) spec["tolerations"] = std::move(tolerations);
  spec["containers"] = Json::array({std::move(container)});
  return spec;
}

Json JobSpec(const MachineOrder& order, const MachineGroup& group, Json pod_spec) {
  return {
      {"completionMode", "Indexed"},
      {"completions", group.count},
      {"parallelism", group.count},
      {"backoffLimit", 0},
      // A pod's time begins on its node, and the job's with the wait for one.
      {"activeDeadlineSeconds", order.lifetime_s + kWaitSeconds},
      {"template",
       {{"metadata", Meta("", Labels(order, group.role), order)}, {"spec", std::move(pod_spec)}}}};
}

Json JobSet(const MachineOrder& order, const Kubernetes& kubernetes) {
  Json jobs = Json::array();
  for (const MachineGroup& group : order.groups) {
    Json spec = JobSpec(order, group, PodSpec(group, kubernetes, order.lifetime_s));
    jobs.push_back(
        {{"name", RoleName(group.role)},
         {"replicas", 1},
         {"template",
          {{"metadata", Meta("", Labels(order, group.role), order)}, {"spec", std::move(spec)}}}});
  }
  Json labels = Labels(order, Role::kMaster);
  labels.erase(kRoleLabel);
  return {{"apiVersion", "jobset.x-k8s.io/v1alpha2"},
          {"kind", "JobSet"},
          {"metadata", Meta(OrderName(order), labels, order)},
          {"spec",
           {{"ttlSecondsAfterFinished", kKeepSeconds},
            {"failurePolicy", {{"maxRestarts", 0}}},
            {"network", {{"enableDNSHostnames", true}}},
            {"replicatedJobs", std::move(jobs)}}}};
}

}  // namespace

std::vector<std::string> ShellWords(const std::string& script) {
  return {"sh", "-c", "kill -USR1 1; exec sh -c \"$0\"", script};
}

std::string DnsLabel(const std::string& text, size_t size) {
  std::string label;
  for (const char c : text) {
    const auto lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool kept = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    label += kept ? lower : '-';
  }
  // Labels do not begin or end with '-'; names of Services begin with a letter.
  if (label.empty() || label[0] < 'a') label.insert(0, "j");
  while (label.back() == '-') label.pop_back();
  if (label == text && label.size() <= size) return label;
  const std::string hash = fmt::format("{:08x}", HashName(text) & 0xFFFFFFFF);
  label.resize(std::min(label.size(), size - 1 - hash.size()));
  while (label.back() == '-') label.pop_back();
  return label + "-" + hash;
}

std::string JobLabel(const std::string& job_id) { return DnsLabel(job_id, kLabelSize); }

std::string OrderName(const MachineOrder& order) {
  const std::string label = DnsLabel(order.job_id, kNameSize - 9);
  const std::string id = fmt::format("{}/{}/{}", order.job_id, order.run, order.attempt);
  return fmt::format("{}-{:08x}", label, HashName(id) & 0xFFFFFFFF);
}

std::string Manifests(const MachineOrder& order, const Kubernetes& kubernetes, bool has_jobsets) {
  // Not a List: kubectl has the server look for unknown fields only in objects of their own.
  if (has_jobsets) return DumpJson(JobSet(order, kubernetes)) + "\n";
  std::string text;
  for (const MachineGroup& group : order.groups) {
    const Json labels = Labels(order, group.role);
    const Json meta =
        Meta(fmt::format("{}-{}", OrderName(order), RoleName(group.role)), labels, order);
    const Json service = {{"apiVersion", "v1"},
                          {"kind", "Service"},
                          {"metadata", meta},
                          {"spec", {{"clusterIP", "None"}, {"selector", labels}}}};
    Json pod_spec = PodSpec(group, kubernetes, order.lifetime_s);
    pod_spec["subdomain"] = meta["name"];
    Json spec = JobSpec(order, group, std::move(pod_spec));
    spec["ttlSecondsAfterFinished"] = kKeepSeconds;
    const Json job = {
        {"apiVersion", "batch/v1"}, {"kind", "Job"}, {"metadata", meta}, {"spec", std::move(spec)}};
    text += DumpJson(service) + "\n" + DumpJson(job) + "\n";
  }
  return text;
}

}  // namespace muster::cluster
