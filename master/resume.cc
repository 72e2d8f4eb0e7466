#include "master/resume.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "configs/codec_text.h"
#include "ps/checkpoint.h"
#include "worker/module.h"

namespace muster::master {
namespace {

void LeaveOutFolders(RunIdentity* identity) {
  const auto module = worker::FindModule(identity->module);
  if (!module.ok()) return;
  for (const worker::Flag& flag : (*module)->flags) {
    if (flag.type == worker::Flag::Type::kFolder) identity->module_flags.erase(flag.name);
  }
}

}  // namespace

RunIdentity IdentityOf(const Job& job, int replicas, const ps::ParamTable& table,
                       const std::string& build_id) {
  const Training& training = job.training();
  RunIdentity identity;
  identity.replicas = replicas;
  identity.seed = training.seed();
  identity.module = job.training_input().python_module();
  for (const std::string& arg : job.training_input().args()) {
    const size_t equals = arg.find('=');
    const size_t name = arg.starts_with("--") ? 2 : 0;
    identity.module_flags[arg.substr(name, equals == std::string::npos ? equals : equals - name)] =
        equals == std::string::npos ? "" : arg.substr(equals + 1);
  }
  LeaveOutFolders(&identity);
  identity.model_fingerprint = ps::ModelFingerprint(table);
  identity.batch_size = training.batch_size();
  identity.consistency = Consistency::Mode_Name(training.consistency().mode());
  identity.staleness = training.consistency().staleness();
  identity.scale_by_staleness = training.consistency().scale_by_staleness();
  identity.backup_workers = training.consistency().backup_workers();
  identity.optimizer = training.optimizer().name().empty() ? "sgd" : training.optimizer().name();
  identity.optimizer_params = {training.optimizer().params().begin(),
                               training.optimizer().params().end()};
  identity.weight_decay = training.optimizer().weight_decay();
  identity.clip_value = training.optimizer().clip_value();
  identity.clip_norm = training.optimizer().clip_norm();
  identity.codec = FormatCodec(training.codec());
  for (const Stage& stage : training.schedule()) {
    RunIdentity::Stage& kept = identity.schedule.emplace_back();
    kept.steps = stage.steps();
    kept.learning_rate = stage.learning_rate();
    if (stage.has_end_learning_rate()) {
      kept.end_learning_rate = stage.end_learning_rate();
      kept.shape = Stage::Shape_Name(stage.shape());
      kept.power = stage.power();
    }
  }
  identity.build_id = build_id;
  return identity;
}

absl::StatusOr<std::optional<Checkpoint>> FindResumePoint(const JobDirectory& dir,
                                                          const RunIdentity& identity,
                                                          std::vector<std::string>* warnings) {
  absl::StatusOr<Checkpoint> checkpoint = NewestCheckpoint(dir, warnings);
  if (absl::IsNotFound(checkpoint.status())) return std::nullopt;
  RETURN_IF_ERROR(checkpoint.status());
  // Manifests of before named folders of data.
  LeaveOutFolders(&checkpoint->manifest.identity);
  RETURN_IF_ERROR(CheckResume(checkpoint->manifest, identity, warnings));
  return *std::move(checkpoint);
}

std::string DevicesOf(const std::vector<Member>& members) {
  std::set<std::string> kinds;
  for (const Member& member : members) {
    if (!member.device_kind.empty()) kinds.insert(member.device_kind);
  }
  return fmt::format("{}", fmt::join(kinds, " and "));
}

std::vector<std::string> NewWarnings(const RunStart& run, const RunIdentity& identity) {
  std::vector<std::string> warnings;
  if (!run.resume.has_value()) return warnings;
  // What it would refuse was compared before.
  CheckResume(run.resume->manifest, identity, &warnings).IgnoreError();
  std::erase_if(warnings, [&](const std::string& warning) {
    return std::ranges::count(run.warnings, warning) > 0;
  });
  return warnings;
}

std::vector<int64_t> CutClocks(int64_t start, int64_t total, int64_t interval) {
  std::vector<int64_t> clocks;
  if (interval > 0) {
    for (int64_t clock = (start / interval + 1) * interval; clock < total; clock += interval) {
      clocks.push_back(clock);
    }
  }
  if (total > start) clocks.push_back(total);
  return clocks;
}

}  // namespace muster::master
