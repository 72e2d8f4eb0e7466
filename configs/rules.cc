#include "configs/rules.h"

#include <fmt/format.h>

#include "configs/rule_reporter.h"
#include "configs/scalar.h"

namespace muster {
namespace {

bool IsJobId(const std::string& id) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (id.size() > 128 || !letter(id[0])) return false;
  for (const char c : id) {
    if (!letter(c) && !(c >= '0' && c <= '9') && c != '_') return false;
  }
  return true;
}

}  // namespace

void CheckJob(const Catalog& catalog, JobDraft* draft) {
  RuleReporter report("", draft);
  const std::string& id = draft->job.job_id();
  if (!id.empty() && !IsJobId(id)) {
    report.Add("jobId", fmt::format("{} is not a job name", Quoted(id)),
               "write at most 128 letters, digits and '_', a letter first");
  }
  for (const auto& [name, value] : draft->job.labels()) {
    if (name.empty()) {
      report.Add("labels", "a label without a name", "write `name: value`");
    }
  }
  CheckTrainingInput(draft);
  CheckReplicas(catalog, draft);
  CheckHyperparameters(draft);
  CheckTraining(draft);
  CheckCluster(draft);
}

}  // namespace muster
