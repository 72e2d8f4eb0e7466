// RuleReporter: how a rule reports. Used by the rules_*.cc files; thread-compatible.
#pragma once

#include <set>
#include <string>

#include "configs/job_yaml.h"

namespace muster {

// Reports violations of fields below `prefix`. A field whose value (or whose parent's) already had
// a problem when the reporter was made is left alone: the user gave something, we only could not
// read it, and a second message about its default value would mislead.
class RuleReporter {
 public:
  RuleReporter(std::string prefix, JobDraft* draft);

  void Add(const std::string& field, std::string what, std::string write);
  // `field`, whose value is `path`, must be absent or an absolute path of a host.
  void CheckAbsolute(const std::string& field, const std::string& path);
  // True when file or flags gave this field, right or wrong.
  bool Given(const std::string& field) const { return draft_->origins.Has(Path(field)); }
  std::string Path(const std::string& field) const {
    return field.empty() ? prefix_ : JoinPath(prefix_, field);
  }
  // "F:3:5", for messages that name a second place.
  std::string Where(const std::string& field) const {
    return ToString(draft_->origins.Find(Path(field)));
  }

 private:
  const std::string prefix_;
  JobDraft* const draft_;
  std::set<std::string> unreadable_;
};

}  // namespace muster
