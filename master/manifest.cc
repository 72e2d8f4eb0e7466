#include "master/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "master/json_fields.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

Json EncodeIdentity(const RunIdentity& id) {
  Json schedule = Json::array();
  for (const RunIdentity::Stage& stage : id.schedule) {
    Json item = {{"steps", stage.steps}, {"learningRate", stage.learning_rate}};
    if (stage.end_learning_rate.has_value()) {
      item["endLearningRate"] = *stage.end_learning_rate;
      item["shape"] = stage.shape;
      item["power"] = stage.power;
    }
    schedule.push_back(std::move(item));
  }
  return {{"replicas", id.replicas},
          {"seed", id.seed},
          {"module", id.module},
          {"moduleFlags", id.module_flags},
          {"modelFingerprint", id.model_fingerprint},
          {"dataFingerprint", id.data_fingerprint},
          {"batchSize", id.batch_size},
          {"consistency", id.consistency},
          {"staleness", id.staleness},
          {"scaleByStaleness", id.scale_by_staleness},
          {"backupWorkers", id.backup_workers},
          {"optimizer", id.optimizer},
          {"optimizerParams", id.optimizer_params},
          {"weightDecay", id.weight_decay},
          {"clipValue", id.clip_value},
          {"clipNorm", id.clip_norm},
          {"codec", id.codec},
          {"schedule", std::move(schedule)},
          {"build", id.build_id},
          {"device", id.device}};
}

// RunIdentity.device of a manifest that says the precision beside it, or not at all: then it was
// TF32. A CPU has none.
std::string WithPrecision(std::string_view device, std::string_view precision) {
  constexpr std::string_view kAnd = " and ";
  const size_t end = device.find(kAnd);
  std::string kind(device.substr(0, end));
  const bool on_cpu = kind.find(" thread") != std::string::npos;
  const bool has_it = std::ranges::any_of(std::array{", FP32", ", TF32", ", BF16"},
                                          [&](auto name) { return kind.ends_with(name); });
  if (!kind.empty() && !on_cpu && !has_it) kind += fmt::format(", {}", precision);
  if (end == std::string_view::npos) return kind;
  return fmt::format("{}{}{}", kind, kAnd,
                     WithPrecision(device.substr(end + kAnd.size()), precision));
}

absl::Status DecodeIdentity(const Json& json, RunIdentity* id) {
  Fields fields(json, "identity.");
  for (const char* name : {"replicas", "seed", "module", "modelFingerprint", "batchSize",
                           "consistency", "optimizer", "schedule"}) {
    fields.Require(name);
  }
  fields.Read("replicas", &id->replicas);
  fields.Read("seed", &id->seed);
  fields.Read("module", &id->module);
  fields.Read("moduleFlags", &id->module_flags);
  fields.Read("modelFingerprint", &id->model_fingerprint);
  fields.Read("dataFingerprint", &id->data_fingerprint);
  fields.Read("batchSize", &id->batch_size);
  fields.Read("consistency", &id->consistency);
  fields.Read("staleness", &id->staleness);
  fields.Read("scaleByStaleness", &id->scale_by_staleness);
  fields.Read("backupWorkers", &id->backup_workers);
  fields.Read("optimizer", &id->optimizer);
  fields.Read("optimizerParams", &id->optimizer_params);
  fields.Read("weightDecay", &id->weight_decay);
  fields.Read("clipValue", &id->clip_value);
  fields.Read("clipNorm", &id->clip_norm);
  fields.Read("codec", &id->codec);
  fields.Read("build", &id->build_id);
  fields.Read("device", &id->device);
  std::string precision = "TF32";
  fields.Read("precision", &precision);
  id->device = WithPrecision(id->device, precision);
  if (const Json* schedule = fields.Objects("schedule")) {
    for (const Json& item : *schedule) {
      RunIdentity::Stage stage;
      Fields inner(item, "identity.schedule.");
      inner.Read("steps", &stage.steps);
      inner.Read("learningRate", &stage.learning_rate);
      inner.Read("endLearningRate", &stage.end_learning_rate);
      inner.Read("shape", &stage.shape);
      inner.Read("power", &stage.power);
      fields.Merge(inner.status());
      id->schedule.push_back(stage);
    }
  }
  return fields.status();
}

Json EncodeParts(const std::vector<ManifestPart>& parts) {
  Json out = Json::array();
  for (const ManifestPart& part : parts) {
    out.push_back({{"file", part.file}, {"bytes", part.bytes}});
  }
  return out;
}

void ReadParts(Fields& fields, const char* name, std::vector<ManifestPart>* out) {
  const Json* parts = fields.Objects(name);
  if (parts == nullptr) return;
  for (const Json& item : *parts) {
    ManifestPart part;
    Fields inner(item, std::string(name) + ".");
    inner.Require("file");
    inner.Require("bytes");
    inner.Read("file", &part.file);
    inner.Read("bytes", &part.bytes);
    fields.Merge(inner.status());
    if (part.file.find('/') != std::string::npos) {
      fields.Merge(absl::InvalidArgumentError(
          fmt::format("{}.file is \"{}\"; it must be a name without a folder", name, part.file)));
    }
    out->push_back(std::move(part));
  }
}

// A stage and how many of its steps, from its first, count.
struct UsedStage {
  const RunIdentity::Stage* stage;
  int64_t steps;

  // "400 steps at 0.1", "400 of 900 steps from 0.1 to 0 (COSINE)"
  std::string Text() const {
    const RunIdentity::Stage& s = *stage;
    if (!s.end_learning_rate) return fmt::format("{} steps at {}", steps, s.learning_rate);
    const std::string power = s.shape == "POLYNOMIAL" ? fmt::format(", power {}", s.power) : "";
    return fmt::format("{} of {} steps from {} to {} ({}{})", steps, s.steps, s.learning_rate,
                       *s.end_learning_rate, s.shape, power);
  }
};

// The part of `schedule` that steps [0, step) used, with neighbours of one unchanging learning
// rate joined: two such schedules that mean the same for these steps give the same text.
std::string ScheduleUpTo(const std::vector<RunIdentity::Stage>& schedule, int64_t step) {
  const auto stay_at_one_rate = [](const RunIdentity::Stage& a, const RunIdentity::Stage& b) {
    return !a.end_learning_rate && !b.end_learning_rate && a.learning_rate == b.learning_rate;
  };
  std::vector<UsedStage> used;
  int64_t left = step;
  for (const RunIdentity::Stage& stage : schedule) {
    const int64_t steps = std::min(left, stage.steps);
    if (steps <= 0) continue;
    left -= steps;
    if (!used.empty() && stay_at_one_rate(*used.back().stage, stage)) {
      used.back().steps += steps;
    } else {
      used.push_back({&stage, steps});
    }
  }
  std::string text;
  for (const UsedStage& stage : used) text += (text.empty() ? "" : ", ") + stage.Text();
  return text;
}

// Collects the fields in which two identities differ.
class Differences {
 public:
  template <typename T>
  void Compare(std::string_view name, const T& then, const T& now) {
    if (then != now) texts_.push_back(fmt::format("{} was {}, is {}", name, then, now));
  }
  template <typename T>
  void CompareMaps(std::string_view prefix, const std::map<std::string, T>& then,
                   const std::map<std::string, T>& now) {
    std::set<std::string> names;
    for (const auto& entry : then) names.insert(entry.first);
    for (const auto& entry : now) names.insert(entry.first);
    for (const std::string& name : names) {
      Compare(fmt::format("{}{}", prefix, name), Show(then, name), Show(now, name));
    }
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  template <typename T>
  static std::string Show(const std::map<std::string, T>& map, const std::string& name) {
    const auto it = map.find(name);
    return it == map.end() ? "not set" : fmt::format("{}", it->second);
  }
  std::vector<std::string> texts_;
};

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  return DumpJsonForPeople({{"schemaVersion", kManifestSchemaVersion},
                            {"step", manifest.step},
                            {"createTime", FormatTime(manifest.created_ms)},
                            {"exact", manifest.exact},
                            {"metrics", manifest.metrics},
                            {"identity", EncodeIdentity(manifest.identity)},
                            {"parts", EncodeParts(manifest.parts)},
                            {"residuals", EncodeParts(manifest.residuals)}});
}

absl::StatusOr<Manifest> DecodeManifest(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text));
  Fields fields(json);
  RETURN_IF_ERROR(fields.ReadSchemaVersion(kManifestSchemaVersion));
  for (const char* name : {"step", "identity", "parts"}) fields.Require(name);
  Manifest manifest;
  fields.Read("step", &manifest.step);
  fields.ReadTime("createTime", &manifest.created_ms);
  fields.Read("exact", &manifest.exact);
  fields.Read("metrics", &manifest.metrics);
  if (const Json* identity = fields.Object("identity")) {
    fields.Merge(DecodeIdentity(*identity, &manifest.identity));
  }
  ReadParts(fields, "parts", &manifest.parts);
  ReadParts(fields, "residuals", &manifest.residuals);
  RETURN_IF_ERROR(fields.status());
  return manifest;
}

absl::Status CheckResume(const Manifest& manifest, const RunIdentity& now,
                         std::vector<std::string>* warnings) {
  const RunIdentity& then = manifest.identity;
  Differences result;
  result.Compare("the number of trainers", then.replicas, now.replicas);
  result.Compare("training.seed", then.seed, now.seed);
  result.Compare("trainingInput.pythonModule", then.module, now.module);
  result.CompareMaps("the module's flag --", then.module_flags, now.module_flags);
  result.Compare("the model (names and shapes of its parameters)", then.model_fingerprint,
                 now.model_fingerprint);
  if (!then.data_fingerprint.empty() && !now.data_fingerprint.empty()) {
    result.Compare("the data (list of samples)", then.data_fingerprint, now.data_fingerprint);
  }
  result.Compare("training.batchSize", then.batch_size, now.batch_size);
  result.Compare("training.consistency.mode", then.consistency, now.consistency);
  result.Compare("training.consistency.staleness", then.staleness, now.staleness);
  result.Compare("training.consistency.scaleByStaleness", then.scale_by_staleness,
                 now.scale_by_staleness);
  result.Compare("training.consistency.backupWorkers", then.backup_workers, now.backup_workers);
  result.Compare("training.optimizer.name", then.optimizer, now.optimizer);
  result.CompareMaps("training.optimizer.params.", then.optimizer_params, now.optimizer_params);
  result.Compare("training.optimizer.weightDecay", then.weight_decay, now.weight_decay);
  result.Compare("training.optimizer.clipValue", then.clip_value, now.clip_value);
  result.Compare("training.optimizer.clipNorm", then.clip_norm, now.clip_norm);
  result.Compare("training.codec", then.codec, now.codec);
  result.Compare(fmt::format("training.schedule up to step {}", manifest.step),
                 ScheduleUpTo(then.schedule, manifest.step),
                 ScheduleUpTo(now.schedule, manifest.step));

  Differences rounding;
  rounding.Compare("the build", then.build_id, now.build_id);
  if (!then.device.empty() && !now.device.empty()) {
    rounding.Compare("what computes", then.device, now.device);
  }
  for (const std::string& text : rounding.texts()) {
    warnings->push_back(
        fmt::format("{}: the result will not be bit-identical to an uninterrupted run", text));
  }
  if (result.texts().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "cannot resume from the checkpoint of step {}: {}. Set {} back, or train anew with another "
      "--job-dir",
      manifest.step, fmt::join(result.texts(), "; "), result.texts().size() == 1 ? "it" : "them"));
}

}  // namespace muster::master
