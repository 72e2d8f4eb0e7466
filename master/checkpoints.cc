// The checkpoint half of master/job_directory.h.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "master/job_directory.h"
#include "ps/safetensors.h"
#include "telemetry/file.h"

namespace muster::master {
namespace {

namespace fs = std::filesystem;

std::string ManifestPath(const std::string& directory) { return directory + "/manifest.json"; }

// Steps of all folders step-N, rising.
absl::StatusOr<std::vector<int64_t>> FolderSteps(const JobDirectory& dir) {
  std::vector<int64_t> steps;
  std::error_code error;
  fs::directory_iterator it(dir.checkpoints(), error), end;
  if (error == std::errc::no_such_file_or_directory) return steps;
  for (; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    constexpr std::string_view kPrefix = "step-";
    int64_t step = 0;
    const auto [stop, parse_error] = std::from_chars(
        name.data() + std::min(kPrefix.size(), name.size()), name.data() + name.size(), step);
    if (name.starts_with(kPrefix) && parse_error == std::errc() &&
        stop == name.data() + name.size()) {
      steps.push_back(step);
    }
  }
  if (error) return ErrnoStatus(error.value(), fmt::format("cannot list {}", dir.checkpoints()));
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<ManifestPart> AllParts(const Manifest& manifest) {
  std::vector<ManifestPart> all = manifest.parts;
  all.insert(all.end(), manifest.residuals.begin(), manifest.residuals.end());
  return all;
}

std::vector<std::string> Paths(const std::string& directory,
                               const std::vector<ManifestPart>& parts) {
  std::vector<std::string> files;
  for (const ManifestPart& part : parts) files.push_back(directory + "/" + part.file);
  return files;
}

// All parts are there, with the sizes that the manifest tells.
absl::Status CheckParts(const std::string& directory, const Manifest& manifest) {
  if (manifest.parts.empty()) return absl::DataLossError("the manifest names no parts");
  for (const ManifestPart& part : AllParts(manifest)) {
    std::error_code error;
    const uintmax_t bytes = fs::file_size(directory + "/" + part.file, error);
    if (error) return absl::DataLossError(fmt::format("{}: {}", part.file, error.message()));
    if (bytes != static_cast<uintmax_t>(part.bytes)) {
      return absl::DataLossError(
          fmt::format("{} has {} bytes instead of {}", part.file, bytes, part.bytes));
    }
  }
  return absl::OkStatus();
}

// The parts read as what they are, with all their data.
absl::Status CheckData(const Checkpoint& checkpoint) {
  for (const std::string& file : Paths(checkpoint.directory, AllParts(checkpoint.manifest))) {
    ASSIGN_OR_RETURN(const ps::SafetensorsFile part, ps::SafetensorsFile::Open(file));
    RETURN_IF_ERROR(part.CheckData());
  }
  return absl::OkStatus();
}

// NotFound: never committed.
absl::StatusOr<Checkpoint> ReadCheckpoint(const JobDirectory& dir, int64_t step) {
  Checkpoint checkpoint{step, dir.checkpoint(step), {}};
  ASSIGN_OR_RETURN(const std::string text, ReadFile(ManifestPath(checkpoint.directory)));
  absl::StatusOr<Manifest> manifest = DecodeManifest(text);
  if (!manifest.ok()) {
    return absl::DataLossError("manifest.json: " + std::string(manifest.status().message()));
  }
  checkpoint.manifest = *std::move(manifest);
  if (checkpoint.manifest.step != step) {
    return absl::DataLossError(
        fmt::format("manifest.json is of step {}", checkpoint.manifest.step));
  }
  RETURN_IF_ERROR(CheckParts(checkpoint.directory, checkpoint.manifest));
  return checkpoint;
}

struct Scan {
  std::vector<Checkpoint> valid;                         // by rising step
  std::vector<std::pair<int64_t, std::string>> damaged;  // step and what is wrong, by rising step
};

absl::StatusOr<Scan> ScanCheckpoints(const JobDirectory& dir) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, FolderSteps(dir));
  Scan scan;
  for (const int64_t step : steps) {
    absl::StatusOr<Checkpoint> checkpoint = ReadCheckpoint(dir, step);
    if (checkpoint.ok()) {
      scan.valid.push_back(*std::move(checkpoint));
    } else if (!absl::IsNotFound(checkpoint.status())) {
      scan.damaged.emplace_back(step, fmt::format("checkpoint {}: {}", dir.checkpoint(step),
                                                  std::string(checkpoint.status().message())));
    }
  }
  return scan;
}

absl::Status RemoveCheckpoint(const std::string& directory) {
  if (unlink(ManifestPath(directory).c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, fmt::format("cannot remove {}", directory));
  }
  std::error_code error;
  fs::remove_all(directory, error);
  return error ? ErrnoStatus(error.value(), fmt::format("cannot remove {}", directory))
               : absl::OkStatus();
}

absl::Status SyncFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot open {}", path));
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  return result == 0 ? absl::OkStatus() : ErrnoStatus(error, fmt::format("cannot sync {}", path));
}

}  // namespace

std::vector<std::string> Checkpoint::part_files() const { return Paths(directory, manifest.parts); }

std::vector<std::string> Checkpoint::residual_files() const {
  return Paths(directory, manifest.residuals);
}

absl::StatusOr<std::vector<Checkpoint>> ListCheckpoints(const JobDirectory& dir,
                                                        std::vector<std::string>* damaged) {
  ASSIGN_OR_RETURN(Scan scan, ScanCheckpoints(dir));
  if (damaged != nullptr) {
    for (auto& entry : scan.damaged) damaged->push_back(std::move(entry.second));
  }
  return std::move(scan.valid);
}

absl::StatusOr<Checkpoint> NewestCheckpoint(const JobDirectory& dir,
                                            std::vector<std::string>* warnings) {
  ASSIGN_OR_RETURN(Scan scan, ScanCheckpoints(dir));
  for (; !scan.valid.empty(); scan.valid.pop_back()) {
    Checkpoint& newest = scan.valid.back();
    absl::Status status = CheckData(newest);
    if (absl::IsDataLoss(status)) {
      scan.damaged.emplace_back(newest.step, fmt::format("checkpoint {}: {}", newest.directory,
                                                         std::string(status.message())));
      continue;
    }
    RETURN_IF_ERROR(status);
    for (const auto& [step, text] : scan.damaged) {
      if (step < newest.step || warnings == nullptr) continue;
      warnings->push_back(
          fmt::format("{}; going back to the checkpoint of step {}", text, newest.step));
    }
    return std::move(newest);
  }
  if (scan.damaged.empty()) {
    return absl::NotFoundError(fmt::format("{} holds no checkpoint", dir.checkpoints()));
  }
  std::string texts;
  for (const auto& entry : scan.damaged) {
    texts += fmt::format("{}{}", texts.empty() ? "" : "; ", entry.second);
  }
  return absl::DataLossError(fmt::format(
      "no checkpoint can be used: {}. Remove {} to start from the beginning, or choose another "
      "--job-dir",
      texts, dir.checkpoints()));
}

const Checkpoint* BestCheckpoint(const std::vector<Checkpoint>& checkpoints) {
  const Checkpoint* best = nullptr;
  double best_accuracy = 0;
  for (const Checkpoint& checkpoint : checkpoints) {
    const auto it = checkpoint.manifest.metrics.find("validation_accuracy");
    if (it == checkpoint.manifest.metrics.end() || std::isnan(it->second)) continue;
    if (best == nullptr || it->second >= best_accuracy) {
      best = &checkpoint;
      best_accuracy = it->second;
    }
  }
  return best;
}

absl::Status CommitCheckpoint(const JobDirectory& dir, const Manifest& manifest) {
  const std::string directory = dir.checkpoint(manifest.step);
  RETURN_IF_ERROR(CheckParts(directory, manifest));
  for (const std::string& file : Paths(directory, AllParts(manifest))) {
    RETURN_IF_ERROR(SyncFile(file));
  }
  return WriteFileAtomically(ManifestPath(directory), EncodeManifest(manifest));
}

absl::StatusOr<std::vector<int64_t>> PruneCheckpoints(const JobDirectory& dir, int keep) {
  ASSIGN_OR_RETURN(const std::vector<Checkpoint> checkpoints, ListCheckpoints(dir, nullptr));
  std::vector<int64_t> removed;
  if (checkpoints.empty()) return removed;
  std::set<int64_t> kept;
  const size_t count = std::min(checkpoints.size(), static_cast<size_t>(std::max(1, keep)));
  for (size_t i = checkpoints.size() - count; i < checkpoints.size(); ++i) {
    kept.insert(checkpoints[i].step);
  }
  if (const Checkpoint* best = BestCheckpoint(checkpoints)) kept.insert(best->step);
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, FolderSteps(dir));
  for (const int64_t step : steps) {
    // Beyond the newest valid one a cut may be on its way.
    if (step > checkpoints.back().step || kept.contains(step)) continue;
    RETURN_IF_ERROR(RemoveCheckpoint(dir.checkpoint(step)));
    removed.push_back(step);
  }
  return removed;
}

}  // namespace muster::master
