#include "cluster/flags.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <map>

#include "configs/nearest.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

enum class Form {
  kText,         // the field's value as the file would write it
  kSwitch,       // true when nothing follows
  kTier,         // basic, standard-1 … as gcloud writes them, or the file's names
  kLabels,       // a=b,c=d
  kAccelerator,  // count=1,type=nvidia-tesla-k80
  kPackages,     // a comma-separated list that is added to packageUris
  kKmsKey,       // a full name, or the last part of one with the other --kms flags
  kKmsPart,
  kAssignment,  // PATH=YAML
  kFollow,      // what launch does anyway
  kRefused,
};

struct FlagRow {
  const char* name;
  const char* path;  // field it sets; "" for none
  Form form;
  const char* value;  // what stands for the value in the help
  const char* help;
};

constexpr std::array<FlagRow, 46> kFlags = {{
    {"--job-id", "jobId", Form::kText, "NAME", "name of the job"},
    {"--job-dir", "trainingInput.jobDir", Form::kText, "DIR",
     "where the job leaves its files; with the same one it goes on where it stopped"},
    {"--module-name", "trainingInput.pythonModule", Form::kText, "MODULE", "what to train"},
    {"--scale-tier", "trainingInput.scaleTier", Form::kTier, "TIER",
     "basic, standard-1, premium-1, basic-gpu or custom"},
    {"--region", "trainingInput.region", Form::kText, "REGION", "where to rent machines"},
    {"--labels", "labels", Form::kLabels, "K=V,...", "labels of the job"},
    {"--master-machine-type", "trainingInput.masterType", Form::kText, "TYPE", ""},
    {"--worker-machine-type", "trainingInput.workerType", Form::kText, "TYPE", ""},
    {"--parameter-server-machine-type", "trainingInput.parameterServerType", Form::kText, "TYPE",
     ""},
    {"--evaluator-machine-type", "trainingInput.evaluatorType", Form::kText, "TYPE", ""},
    {"--worker-count", "trainingInput.workerCount", Form::kText, "N", ""},
    {"--parameter-server-count", "trainingInput.parameterServerCount", Form::kText, "N", ""},
    {"--evaluator-count", "trainingInput.evaluatorCount", Form::kText, "N", ""},
    {"--master-accelerator", "trainingInput.masterConfig.acceleratorConfig", Form::kAccelerator,
     "count=N,type=T", ""},
    {"--worker-accelerator", "trainingInput.workerConfig.acceleratorConfig", Form::kAccelerator,
     "count=N,type=T", ""},
    {"--parameter-server-accelerator", "trainingInput.parameterServerConfig.acceleratorConfig",
     Form::kAccelerator, "count=N,type=T", ""},
    {"--evaluator-accelerator", "trainingInput.evaluatorConfig.acceleratorConfig",
     Form::kAccelerator, "count=N,type=T", ""},
    {"--master-image-uri", "trainingInput.masterConfig.imageUri", Form::kText, "IMAGE", ""},
    {"--worker-image-uri", "trainingInput.workerConfig.imageUri", Form::kText, "IMAGE", ""},
    {"--parameter-server-image-uri", "trainingInput.parameterServerConfig.imageUri", Form::kText,
     "IMAGE", ""},
    {"--evaluator-image-uri", "trainingInput.evaluatorConfig.imageUri", Form::kText, "IMAGE", ""},
    {"--tpu-tf-version", "trainingInput.workerConfig.tpuTfVersion", Form::kText, "VERSION", ""},
    {"--package-path", "trainingInput.packageUris", Form::kPackages, "DIR", "Python package"},
    {"--packages", "trainingInput.packageUris", Form::kPackages, "FILE,...", "Python packages"},
    {"--staging-bucket", "cluster.stagingBucket", Form::kText, "BUCKET",
     "where code for other machines is put"},
    {"--runtime-version", "trainingInput.runtimeVersion", Form::kText, "VERSION", ""},
    {"--python-version", "trainingInput.pythonVersion", Form::kText, "VERSION", ""},
    {"--max-running-time", "trainingInput.scheduling.maxRunningTime", Form::kText, "TIME",
     "stop the job after, e.g. 7200s"},
    {"--max-wait-time", "trainingInput.scheduling.maxWaitTime", Form::kText, "TIME", ""},
    {"--network", "trainingInput.network", Form::kText, "NETWORK", ""},
    {"--service-account", "trainingInput.serviceAccount", Form::kText, "ACCOUNT", ""},
    {"--enable-web-access", "trainingInput.enableWebAccess", Form::kSwitch, "", ""},
    {"--use-chief-in-tf-config", "trainingInput.useChiefInTfConfig", Form::kSwitch, "",
     "TF_CONFIG says chief rather than master"},
    {"--kms-key", "trainingInput.encryptionConfig.kmsKeyName", Form::kKmsKey, "KEY", ""},
    {"--kms-keyring", "keyRings", Form::kKmsPart, "RING", ""},
    {"--kms-location", "locations", Form::kKmsPart, "LOCATION", ""},
    {"--kms-project", "projects", Form::kKmsPart, "PROJECT", ""},
    {"--provider", "cluster.provider", Form::kText, "NAME", "LOCAL"},
    {"--device", "training.device", Form::kText, "DEVICE", "AUTO, CPU or GPU"},
    {"--consistency", "training.consistency.mode", Form::kText, "MODE", "BSP, SSP or ASYNC"},
    {"--staleness", "training.consistency.staleness", Form::kText, "N", "bound of SSP, in steps"},
    {"--optimizer", "training.optimizer.name", Form::kText, "NAME", ""},
    {"--seed", "training.seed", Form::kText, "N", ""},
    {"--set", "", Form::kAssignment, "PATH=YAML",
     "any field of the job file, e.g. training.checkpoints.keep=3; may be repeated"},
    {"--stream-logs", "", Form::kFollow, "", "what launch does anyway"},
    {"--async", "", Form::kRefused, "", "not there: launch follows its job"},
}};

const FlagRow* FindRow(const std::string& name) {
  for (const FlagRow& row : kFlags) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

bool TakesValue(Form form) {
  return form != Form::kSwitch && form != Form::kFollow && form != Form::kRefused;
}

std::vector<std::string> AllNames() {
  std::vector<std::string> names = {"--config", "--check", "--help"};
  for (const FlagRow& row : kFlags) names.push_back(row.name);
  return names;
}

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
      case Form::kRefused:
        return Add(flag, "launch follows its job to the end",
                   "delete it, or run launch in the background");
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

// CLI11's reading of the words, every value as text.
struct Words {
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::string> config, unknown;
  bool check = false, help = false;
};

void AddOptions(CLI::App& app, Words* words) {
  app.allow_extras();
  app.set_help_flag();
  app.add_option("--config", words->config)->allow_extra_args(false);
  app.add_flag("--check", words->check);
  app.add_flag("-h,--help", words->help);
  for (const FlagRow& row : kFlags) {
    CLI::Option* option = app.add_option(row.name, words->values[row.name]);
    TakesValue(row.form) ? option->allow_extra_args(false) : option->expected(0, 1);
  }
}

// Words that no flag took: unknown flags, their values, and stray text.
void ReportUnknown(const std::vector<std::string>& unknown, Problems* problems) {
  bool after_flag = false;
  for (const std::string& word : unknown) {
    const bool is_flag = word.starts_with('-');
    const std::string name = word.substr(0, word.find('='));
    if (is_flag) {
      const std::string nearest = Nearest(name, AllNames());
      problems->Add({name}, "", "unknown flag",
                    nearest.empty() ? "see launch --help; the module's own flags stand after `--`"
                                    : fmt::format("write {}", nearest));
    } else if (!after_flag) {
      problems->Add({"command line"}, "", fmt::format("{} belongs to no flag", Quoted(word)),
                    "see launch --help; the module's own flags stand after `--`");
    }
    after_flag = is_flag && word.find('=') == std::string::npos;
  }
}

void TakeValues(const Words& words, LaunchFlags* flags, Problems* problems) {
  if (words.config.size() > 1) problems->Add({"--config"}, "", "given twice", "keep one of them");
  if (!words.config.empty()) flags->config = words.config[0];
  flags->check = words.check;
  flags->help = words.help;
  for (const FlagRow& row : kFlags) {
    const std::vector<std::string>& texts = words.values.at(row.name);
    if (texts.size() > 1 && row.form != Form::kAssignment) {
      problems->Add({row.name}, "", "given twice", "keep one of them");
    }
    for (const std::string& text : texts) flags->given.push_back({row.name, text});
  }
}

}  // namespace

LaunchFlags ParseLaunchFlags(const std::vector<std::string>& all_words, Problems* problems) {
  LaunchFlags flags;
  const auto dashes = std::find(all_words.begin(), all_words.end(), "--");
  flags.has_args = dashes != all_words.end();
  if (flags.has_args) flags.args.assign(dashes + 1, all_words.end());

  Words words;
  CLI::App app;
  AddOptions(app, &words);
  std::vector<std::string> reversed(all_words.begin(), dashes);
  std::reverse(reversed.begin(), reversed.end());  // CLI11 takes the words from the back
  try {
    app.parse(reversed);
  } catch (const CLI::Error& e) {
    const std::string what = e.what();
    const size_t colon = what.find(':');
    problems->Add({colon == std::string::npos ? "command line" : what.substr(0, colon)}, "",
                  colon == std::string::npos ? what : "no value", "write one after it");
    flags.wrong = true;
    return flags;
  }
  ReportUnknown(app.remaining(), problems);
  TakeValues(words, &flags, problems);
  return flags;
}

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

std::string LaunchHelp() {
  std::string help =
      "launch [--config FILE] [--check] [flags] [-- the module's flags]\n\n"
      "Trains the job that FILE (docs/job-file.md) and the flags describe; flags override the "
      "file.\n\n";
  const auto line = [&](const std::string& name, const std::string& text) {
    help += text.empty() ? fmt::format("  {}\n", name) : fmt::format("  {:<46} {}\n", name, text);
  };
  line("--config FILE", "the job file");
  line("--check", "print the plan, start nothing");
  for (const FlagRow& row : kFlags) {
    line(row.value[0] == '\0' ? row.name : fmt::format("{} {}", row.name, row.value), row.help);
  }
  return help;
}

}  // namespace muster::cluster
