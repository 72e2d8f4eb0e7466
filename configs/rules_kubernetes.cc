// cluster.kubernetes: what becomes words of kubectl's and fields of manifests must be such.
#include <fmt/format.h>

#include "configs/rule_reporter.h"
#include "configs/rules.h"
#include "configs/scalar.h"

namespace muster {
namespace {

// A word: no spaces, and nothing that kubectl would take for an option.
bool IsWord(const std::string& text) {
  return !text.starts_with("-") && text.find_first_of(" \t\n\r") == std::string::npos;
}

bool IsDnsLabel(const std::string& text) {
  return !text.empty() && text.size() <= 63 && text.front() != '-' && text.back() != '-' &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
}

void CheckToleration(const Toleration& toleration, const std::string& path, RuleReporter* report) {
  const std::string& kind = toleration.operator_();
  if (!kind.empty() && kind != "Equal" && kind != "Exists") {
    report->Add(path + ".operator", fmt::format("{} is none of Kubernetes's", Quoted(kind)),
                "write Equal or Exists");
  }
  if (kind == "Exists" && !toleration.value().empty()) {
    report->Add(path + ".value", "together with operator: Exists, which takes any",
                "keep one of them");
  }
  if (kind != "Exists" && toleration.key().empty()) {
    report->Add(path + ".key", "required, but for operator: Exists",
                "write the key of the nodes' taint");
  }
  const std::string& effect = toleration.effect();
  if (!effect.empty() && effect != "NoSchedule" && effect != "PreferNoSchedule" &&
      effect != "NoExecute") {
    report->Add(path + ".effect", fmt::format("{} is none of Kubernetes's", Quoted(effect)),
                "write NoSchedule, PreferNoSchedule or NoExecute");
  }
}

}  // namespace

void CheckKubernetes(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  const Kubernetes& kubernetes = cluster.kubernetes();
  RuleReporter report("cluster.kubernetes", draft);
  if (cluster.provider() != Cluster::KUBERNETES) {
    if (cluster.has_kubernetes()) {
      report.Add("", "only provider KUBERNETES uses it",
                 "write provider: KUBERNETES, or delete it");
    }
    return;
  }
  if (!IsWord(kubernetes.context())) {
    report.Add("context", fmt::format("{} is no context", Quoted(kubernetes.context())),
               "write one that kubectl config get-contexts lists");
  }
  if (!kubernetes.namespace_().empty() && !IsDnsLabel(kubernetes.namespace_())) {
    report.Add("namespace", fmt::format("{} is no namespace", Quoted(kubernetes.namespace_())),
               "write one that kubectl get namespaces lists");
  }
  if (!IsWord(kubernetes.image())) {
    report.Add("image", fmt::format("{} is no image", Quoted(kubernetes.image())),
               "write one such as debian:12-slim");
  }
  for (int i = 0; i < kubernetes.tolerations_size(); ++i) {
    CheckToleration(kubernetes.tolerations(i), fmt::format("tolerations[{}]", i), &report);
  }
  report.CheckAbsolute("directory", kubernetes.directory());
  report.CheckAbsolute("programs", kubernetes.programs());
}

}  // namespace muster
