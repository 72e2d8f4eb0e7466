// ApplyLaunchFlags: from the texts of flags to the fields of a job.
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "cluster/flag_table.h"
#include "cluster/flags.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

std::vector<std::string> Split(const std::string& text) {
  return absl::StrSplit(text, ',', absl::SkipEmpty());
}

// "k=v" -> {k, v}; without '=' the second is absent.
std::pair<std::string, std::optional<std::string>> KeyValue(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return {text, std::nullopt};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

// Applies one flag to the draft.
class FlagSetter {
 public:
  FlagSetter(const LaunchFlags& flags, JobDraft* draft) : flags_(flags), draft_(draft) {}

  void Set(const GivenFlag& flag) {
    const FlagRow& row = *FindRow(flag.name);
    switch (row.form) {
      case Form::kText:
        return SetJobField(row.path, flag.text, {flag.name}, draft_);
      case Form::kSwitch:
        return SetJobField(row.path, flag.text.empty() ? "true" : flag.text, {flag.name}, draft_);
      case Form::kTier:
        return Tier(row, flag);
      case Form::kLabels:
        return Labels(flag);
      case Form::kAccelerator:
        return Accelerator(row, flag);
      case Form::kPackages:
        return Packages(row, flag);
      case Form::kKmsKey:
        return KmsKey(row, flag);
      case Form::kAssignment:
        return Assignment(flag);
      case Form::kKmsPart:
      case Form::kFollow:
        return;
    }
  }

 private:
  void Add(const GivenFlag& flag, std::string what, std::string write) {
    draft_->problems.Add({flag.name}, "", std::move(what), std::move(write));
  }

  void Tier(const FlagRow& row, const GivenFlag& flag) {
    std::string tier = flag.text;
    for (char& c : tier) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    ScaleTier known;
    SetJobField(row.path, ScaleTier_Parse(tier, &known) ? tier : flag.text, {flag.name}, draft_);
  }

  void Labels(const GivenFlag& flag) {
    draft_->job.clear_labels();
    draft_->origins.Erase("labels");
    draft_->origins.Set("labels", {flag.name});
    for (const std::string& item : Split(flag.text)) {
      const auto [key, value] = KeyValue(item);
      if (!value || key.empty()) {
        Add(flag, fmt::format("{} is not a label", Quoted(item)), "write name=value,name=value");
      } else {
        (*draft_->job.mutable_labels())[key] = *value;
      }
    }
  }

  void Accelerator(const FlagRow& row, const GivenFlag& flag) {
    SetJobFieldYaml(row.path, "{}", {flag.name}, draft_);
    for (const std::string& item : Split(flag.text)) {
      auto [key, value] = KeyValue(item);
      if (!value || (key != "count" && key != "type")) {
        Add(flag, fmt::format("{} is not count=N or type=T", Quoted(item)),
            "write count=1,type=nvidia-tesla-v100");
        continue;
      }
      if (key == "type") {
        for (char& c : *value) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
      }
      SetJobField(JoinPath(row.path, key), *value, {flag.name}, draft_);
    }
  }

  // --package-path and --packages together replace the file's list.
  void Packages(const FlagRow& row, const GivenFlag& flag) {
    std::vector<std::string> items;
    if (packages_set_) {
      const auto& set = draft_->job.training_input().package_uris();
      items.assign(set.begin(), set.end());
    }
    packages_set_ = true;
    for (std::string& item : Split(flag.text)) items.push_back(std::move(item));
    SetJobList(row.path, items, std::vector<Origin>(items.size(), Origin{flag.name}), draft_);
  }

  std::string KmsPart(const char* kind) const {
    for (const GivenFlag& flag : flags_.given) {
      const FlagRow& row = *FindRow(flag.name);
      if (row.form == Form::kKmsPart && std::string(row.path) == kind) return flag.text;
    }
    return "";
  }

  void KmsKey(const FlagRow& row, const GivenFlag& flag) {
    std::string key = flag.text;
    if (key.find('/') == std::string::npos) {
      const std::string project = KmsPart("projects"), location = KmsPart("locations"),
                        ring = KmsPart("keyRings");
      if (project.empty() || location.empty() || ring.empty()) {
        return Add(flag, fmt::format("{} is only the last part of a key's name", Quoted(key)),
                   "write --kms-keyring, --kms-location and --kms-project too");
      }
      key = fmt::format("projects/{}/locations/{}/keyRings/{}/cryptoKeys/{}", project, location,
                        ring, key);
    }
    SetJobField(row.path, key, {flag.name}, draft_);
  }

  void Assignment(const GivenFlag& flag) {
    const auto [path, yaml] = KeyValue(flag.text);
    if (!yaml) {
      return Add(flag, fmt::format("{} has no value", Quoted(flag.text)),
                 "write a field's path and its value, such as --set training.batchSize=64");
    }
    SetJobFieldYaml(path, *yaml, {"--set " + path}, draft_);
  }

  const LaunchFlags& flags_;
  JobDraft* const draft_;
  bool packages_set_ = false;
};

}  // namespace

void ApplyLaunchFlags(const LaunchFlags& flags, JobDraft* draft) {
  FlagSetter setter(flags, draft);
  for (const GivenFlag& flag : flags.given) setter.Set(flag);
  if (!flags.has_args) return;
  std::vector<Origin> origins;
  for (const std::string& arg : flags.args) {
    origins.push_back({"-- " + arg.substr(0, arg.find('='))});
  }
  SetJobList("trainingInput.args", flags.args, origins, draft);
}

}  // namespace muster::cluster
