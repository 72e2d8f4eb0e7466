#include "configs/rule_reporter.h"

#include <fmt/format.h>

#include <utility>

#include "configs/scalar.h"

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

void RuleReporter::CheckAbsolute(const std::string& field, const std::string& path) {
  if (path.empty() || path.starts_with("/") || path.starts_with("~/")) return;
  Add(field, fmt::format("{} is no absolute path", Quoted(path)),
      "write one that begins with / or ~/");
}

}  // namespace muster
