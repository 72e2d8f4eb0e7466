#include "cluster/kubernetes.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <utility>

#include "cluster/kubectl.h"
#include "cluster/kubernetes_answers.h"
#include "cluster/kubernetes_manifest.h"
#include "cluster/kubernetes_room.h"
#include "cluster/ssh.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

constexpr int64_t kToolMs = 40'000;
// Less, so that kubectl itself says what it has waited for.
constexpr char kRequestTimeout[] = "--request-timeout=30s";
constexpr int kTries = 3;

// What a job does in the namespace, as `kubectl auth can-i` asks for it.
constexpr std::array<std::array<const char*, 3>, 5> kPermissions = {{
    {"create", "jobs.batch", ""},
    {"delete", "jobs.batch", ""},
    {"create", "services", ""},
    {"list", "pods", ""},
    {"create", "pods", "--subresource=exec"},
}};

std::string Selector(const std::string& job_id) {
  return job_id.empty() ? kJobLabel : fmt::format("{}={}", kJobLabel, JobLabel(job_id));
}

}  // namespace

KubernetesProvider::KubernetesProvider(Kubernetes kubernetes, ToolRunner tools,
                                       std::vector<std::string> environment, std::string build_id)
    : kubernetes_(std::move(kubernetes)),
      tools_(std::move(tools)),
      environment_(std::move(environment)),
      build_id_(std::move(build_id)) {}

absl::StatusOr<ToolResult> KubernetesProvider::Run(const std::vector<std::string>& more, int tries,
                                                   const std::string& input) const {
  std::vector<std::string> words = KubectlWords(kubernetes_, more);
  words.insert(words.begin() + 1, kRequestTimeout);
  for (;;) {
    auto result = tools_(words, kToolMs, input);
    // --dry-run: as if all were well.
    if (absl::IsUnimplemented(result.status())) return ToolResult();
    if (absl::IsNotFound(result.status())) {
      return absl::NotFoundError(
          "there is no program kubectl in PATH: install it, or run launch where it is");
    }
    const bool answered =
        result.ok() ? result->code == 0 || !absl::IsUnavailable(ExplainKubectl(result->err))
                    : !absl::IsDeadlineExceeded(result.status());
    if (answered || --tries == 0) return result;
  }
}

absl::StatusOr<std::string> KubernetesProvider::Ask(const std::vector<std::string>& more, int tries,
                                                    const std::string& input) const {
  ASSIGN_OR_RETURN(ToolResult result, Run(more, tries, input));
  if (result.code != 0) return ExplainKubectl(result.err);
  return std::move(result.out);
}

absl::Status KubernetesProvider::CheckPermissions() const {
  for (const auto& [verb, resource, more] : kPermissions) {
    std::vector<std::string> words = {"auth", "can-i", verb, resource};
    if (*more != '\0') words.emplace_back(more);
    ASSIGN_OR_RETURN(const ToolResult result, Run(words, /*tries=*/1));
    if (result.code == 0) continue;
    if (!result.out.starts_with("no")) return ExplainKubectl(result.err);
    return absl::PermissionDeniedError(
        fmt::format("Kubernetes does not let you {} {}{}: ask who runs the cluster for the role "
                    "edit in this namespace",
                    verb, resource, *more != '\0' ? "/exec" : ""));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> KubernetesProvider::HasJobSets() {
  if (!has_jobsets_) {
    ASSIGN_OR_RETURN(const std::string names,
                     Ask({"api-resources", "--api-group=jobset.x-k8s.io", "-o", "name"}, kTries));
    bool usable = names.find("jobsets.") != std::string::npos;
    if (usable) {
      ASSIGN_OR_RETURN(const ToolResult allowed,
                       Run({"auth", "can-i", "create", "jobsets.jobset.x-k8s.io"}, kTries));
      usable = allowed.code == 0;
    }
    has_jobsets_ = usable;
  }
  return *has_jobsets_;
}

absl::StatusOr<std::vector<std::string>> KubernetesProvider::Check(const MachineOrder& order) {
  RETURN_IF_ERROR(CheckPermissions());
  std::vector<std::string> lines;
  // Not everybody may see quotas and nodes; then Kubernetes says later what is amiss.
  const auto quotas = Ask({"get", "resourcequotas", "-o", "json"});
  if (quotas.ok() && !quotas->empty()) {
    ASSIGN_OR_RETURN(const std::vector<KubernetesQuota> parsed, ParseQuotas(*quotas));
    ASSIGN_OR_RETURN(lines, CheckQuotas(order, parsed));
  } else if (!quotas.ok() && !absl::IsPermissionDenied(quotas.status())) {
    return quotas.status();
  }
  if (!kubernetes_.autoscaled()) {
    const auto nodes = Ask({"get", "nodes", "-o", "json"});
    if (nodes.ok() && !nodes->empty()) {
      ASSIGN_OR_RETURN(const std::vector<KubernetesNode> parsed, ParseNodes(*nodes));
      RETURN_IF_ERROR(CheckNodes(order, kubernetes_, parsed));
    } else if (!nodes.ok() && !absl::IsPermissionDenied(nodes.status())) {
      return nodes.status();
    }
  }
  ASSIGN_OR_RETURN(const bool has_jobsets, HasJobSets());
  lines.emplace_back(has_jobsets ? "all roles are one JobSet" : "each role is one Job");
  return lines;
}

absl::Status KubernetesProvider::Create(
    const MachineOrder& order, const std::function<absl::Status(const std::string&)>& before) {
  ASSIGN_OR_RETURN(const bool has_jobsets, HasJobSets());
  RETURN_IF_ERROR(before(OrderName(order)));
  // Names are fixed: what came through without an answer is not made again.
  return Ask({"apply", "-f", "-"}, kTries, Manifests(order, kubernetes_, has_jobsets)).status();
}

absl::StatusOr<std::vector<Machine>> KubernetesProvider::List(const std::string& job_id) {
  ASSIGN_OR_RETURN(
      const std::string text,
      Ask({"get", "jobs,pods", "--selector=" + Selector(job_id), "-o", "json"}, kTries));
  ASSIGN_OR_RETURN(KubernetesMachines found, ParsePods(text));
  if (!found.unmade.empty()) {
    const auto events =
        Ask({"get", "events", "--field-selector=reason=FailedCreate", "-o", "json"});
    if (events.ok()) {
      const std::map<std::string, std::string> refusals = ParseRefusals(*events);
      for (const auto& [i, job] : found.unmade) {
        const auto refusal = refusals.find(job);
        if (refusal != refusals.end()) found.machines[i].reason = refusal->second;
      }
    }
  }
  return std::move(found.machines);
}

absl::Status KubernetesProvider::Destroy(const std::string& job_id) {
  ASSIGN_OR_RETURN(const bool has_jobsets, HasJobSets());
  // What makes others goes before what it makes.
  const std::string kinds = has_jobsets ? "jobsets,jobs,services,pods" : "jobs,services,pods";
  return Ask({"delete", kinds, "--selector=" + Selector(job_id), "--wait=false",
              "--ignore-not-found"},
             kTries)
      .status();
}

absl::StatusOr<RunHost> KubernetesProvider::Reach(const Machine& machine) {
  Ssh programs;
  programs.set_directory(kubernetes_.directory());
  programs.set_programs(kubernetes_.programs());
  RunHost host;
  host.link.name = machine.id;
  host.link.argv = KubectlWords(kubernetes_, {"exec", "-i", machine.id, "-c", kContainer, "--"});
  for (std::string& word : ShellWords(NodeScript(programs, build_id_))) {
    host.link.argv.push_back(std::move(word));
  }
  host.link.argv.front() = FindProgram("kubectl", Variable(environment_, "PATH"));
  if (host.link.argv.front().empty()) {
    return absl::NotFoundError("there is no program kubectl in PATH");
  }
  host.link.environment = environment_;
  host.link.explain = [](const std::string& text) {
    return std::string(ExplainKubectl(text).message());
  };
  host.address = machine.address;
  host.address_field = "the pod's status.podIP";
  return host;
}

absl::StatusOr<std::vector<std::string>> KubernetesProvider::Terminal(
    const Machine& machine, const TerminalWish& wish) const {
  if (wish.forwards.empty()) {
    std::vector<std::string> words = KubectlWords(
        kubernetes_, {"exec", wish.types ? "-it" : "-i", machine.id, "-c", kContainer, "--"});
    const std::vector<std::string> command = wish.CommandOrShell();
    words.insert(words.end(), command.begin(), command.end());
    return words;
  }
  if (!wish.command.empty()) {
    return absl::InvalidArgumentError(
        "kubectl brings ports here or runs a command: run launch ssh twice, once with -L");
  }
  std::vector<std::string> words = KubectlWords(kubernetes_, {"port-forward", machine.id});
  for (const std::string& forward : wish.forwards) {
    const std::vector<std::string> parts = absl::StrSplit(forward, ':');
    if (parts.size() != 3 || (parts[1] != "127.0.0.1" && parts[1] != "localhost")) {
      return absl::InvalidArgumentError(fmt::format(
          "-L {}: of a pod kubectl brings its own ports alone: write -L PORT:127.0.0.1:PORT",
          Quoted(forward)));
    }
    words.push_back(parts[0] + ":" + parts[2]);
  }
  return words;
}

std::string KubernetesProvider::ListCommand(const std::string& job_id) const {
  return fmt::format(
      "{}", fmt::join(KubectlWords(kubernetes_, {"get", "pods", "-l", Selector(job_id)}), " "));
}

}  // namespace muster::cluster
