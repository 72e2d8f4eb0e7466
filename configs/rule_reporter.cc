#include "configs/rule_reporter.h"

#include <utility>

namespace muster {

RuleReporter::RuleReporter(std::string prefix, JobDraft* draft)
    : prefix_(std::move(prefix)), draft_(draft) {
  for (const Problem& problem : draft->problems.Sorted()) {
    if (!problem.field.empty()) unreadable_.insert(problem.field);
  }
}

void RuleReporter::Add(const std::string& field, std::string what, std::string write) {
  const std::string path = Path(field);
  for (std::string p = path; !p.empty(); p = ParentPath(p)) {
    if (unreadable_.contains(p)) return;
  }
  draft_->problems.Add(draft_->origins.Find(path), path, std::move(what), std::move(write));
}

}  // namespace muster
