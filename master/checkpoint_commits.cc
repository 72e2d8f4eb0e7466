#include "master/checkpoint_commits.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>

namespace muster::master {
namespace {

constexpr int kKeep = 5;

std::vector<ManifestPart> PartsOf(const std::vector<std::string>& files) {
  std::vector<ManifestPart> parts;
  for (const std::string& file : files) {
    std::error_code ignored;
    parts.push_back({std::filesystem::path(file).filename(),
                     static_cast<int64_t>(std::filesystem::file_size(file, ignored))});
  }
  return parts;
}

}  // namespace

CheckpointCommits::CheckpointCommits(Options options)
    : options_(std::move(options)),
      cuts_(options_.servers, options_.replicas),
      committed_(options_.resumed_from) {}

void CheckpointCommits::OnCut(int server, const CutDone& done) {
  if (const auto cut = cuts_.Add(server, done); cut.has_value()) Commit(*cut);
}

void CheckpointCommits::Commit(const CutGather::Result& cut) {
  RunRecord& record = *options_.record;
  if (absl::Status status = WriteManifest(cut); !status.ok()) {
    const std::string error(status.message());
    record.Message(MessageLine::Level::kWarning,
                   fmt::format("the checkpoint of step {} was not written: {}", cut.clock, error));
    record.AddEvent(cut.clock, "checkpoint failed: " + error);
    failed_[cut.clock] = error;
    return;
  }
  committed_ = cut.clock;
  options_.log->Info("checkpoint of step {} committed", cut.clock);
  CheckpointSummary summary;
  summary.step = cut.clock;
  summary.path = fmt::format("checkpoints/step-{}", cut.clock);
  record.state().last_checkpoint = summary;
  AddAccuracy(cut.clock);
  const int keep = options_.keep > 0 ? options_.keep : kKeep;
  if (auto removed = PruneCheckpoints(options_.dir, keep); !removed.ok()) {
    options_.log->Warning("old checkpoints stay: {}", std::string(removed.status().message()));
  }
}

absl::Status CheckpointCommits::WriteManifest(const CutGather::Result& cut) {
  if (!cut.error.empty()) return absl::ResourceExhaustedError(cut.error);
  Manifest manifest;
  manifest.step = cut.clock;
  manifest.created_ms = options_.now_ms();
  manifest.exact = options_.record->state().exact;
  manifest.identity = options_.identity;
  manifest.parts = PartsOf(cut.files);
  manifest.residuals = PartsOf(cut.residuals);
  RETURN_IF_ERROR(CommitCheckpoint(options_.dir, manifest));
  manifest_ = std::move(manifest);
  return absl::OkStatus();
}

void CheckpointCommits::OnAccuracy(int64_t step, double accuracy) {
  accuracy_[step] = accuracy;
  AddAccuracy(step);
}

// The evaluation of a checkpoint's step may end before the checkpoint is committed, or after.
void CheckpointCommits::AddAccuracy(int64_t step) {
  const auto found = accuracy_.find(step);
  if (found == accuracy_.end() || committed_ != step || manifest_.step != step) return;
  const double accuracy = found->second;
  manifest_.metrics["validation_accuracy"] = accuracy;
  if (absl::Status status = CommitCheckpoint(options_.dir, manifest_); !status.ok()) {
    options_.log->Warning("the checkpoint of step {} does not tell its accuracy: {}", step,
                          std::string(status.message()));
  }
  JobState& state = options_.record->state();
  if (!state.last_checkpoint.has_value()) return;
  state.last_checkpoint->validation_accuracy = accuracy;
  const auto& best = state.best_checkpoint;
  if (!best.has_value() || accuracy >= best->validation_accuracy.value_or(0)) {
    state.best_checkpoint = state.last_checkpoint;
  }
}

std::optional<absl::Status> CheckpointCommits::Outcome(int64_t clock) const {
  if (const auto failed = failed_.find(clock); failed != failed_.end()) {
    return absl::ResourceExhaustedError(failed->second);
  }
  if (committed_ == clock) return absl::OkStatus();
  return std::nullopt;
}

}  // namespace muster::master
