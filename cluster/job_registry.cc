#include "cluster/job_registry.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <tuple>
#include <utility>

#include "cluster/printable.h"
#include "master/job_directory.h"
#include "master/job_files.h"
#include "master/job_state.h"
#include "master/json_fields.h"
#include "telemetry/crc32c.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int kSchemaVersion = 1;
constexpr int64_t kMaxEntryBytes = 64 << 10;
constexpr int64_t kMaxStateBytes = 16 << 20;

absl::StatusOr<JobEntry> Decode(std::string_view text) {
  ASSIGN_OR_RETURN(const master::Json json, master::ParseJsonObject(text));
  master::Fields fields(json);
  RETURN_IF_ERROR(fields.ReadSchemaVersion(kSchemaVersion));
  JobEntry entry;
  fields.Require("jobId");
  fields.Require("jobDir");
  fields.Read("jobId", &entry.job_id);
  fields.Read("jobDir", &entry.job_dir);
  fields.Read("provider", &entry.provider);
  fields.ReadTime("beganTime", &entry.began_ms);
  fields.Read("stays", &entry.stays);
  RETURN_IF_ERROR(fields.status());
  if (entry.job_id.empty() || Printable(entry.job_id) != entry.job_id ||
      Printable(entry.provider) != entry.provider) {
    return absl::InvalidArgumentError("it names no job");
  }
  if (!entry.job_dir.starts_with('/') || Printable(entry.job_dir) != entry.job_dir) {
    return absl::InvalidArgumentError("its jobDir is no absolute path");
  }
  return entry;
}

absl::StatusOr<JobEntry> ReadEntry(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxEntryBytes));
  return Decode(text);
}

std::string Several(const std::string& word, const std::vector<const JobEntry*>& entries) {
  std::string text = fmt::format("{} jobs could be meant by {}: name a directory:", entries.size(),
                                 Printable(word));
  for (const JobEntry* entry : entries) {
    text += fmt::format("{} {} ({})", entry == entries.front() ? "" : ",", entry->job_dir,
                        entry->job_id);
  }
  return text;
}

// The job in the folder `word`, which may have come from elsewhere.
absl::StatusOr<JobEntry> OfDirectory(const std::string& word,
                                     const std::vector<JobEntry>& entries) {
  std::error_code error;
  JobEntry entry;
  entry.job_dir = fs::canonical(word, error).string();
  for (const JobEntry& known : entries) {
    if (fs::weakly_canonical(known.job_dir, error) == entry.job_dir) return known;
  }
  const auto state = ReadStateOf(entry.job_dir);
  if (absl::IsNotFound(state.status())) {
    return absl::NotFoundError(
        fmt::format("{} is no job directory: there is no state.json", Printable(word)));
  }
  RETURN_IF_ERROR(state.status());
  entry.job_id = Printable(state->job_id);
  entry.began_ms = state->create_ms;
  return entry;
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0)
    return ErrnoStatus(errno, fmt::format("cannot read {}", path));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(fmt::format("{} is no regular file", path));
  }
  if (info.st_size > max_bytes) {
    return absl::InvalidArgumentError(fmt::format("{} has {} bytes", path, info.st_size));
  }
  return master::ReadPart(path, 0, static_cast<size_t>(info.st_size));
}

absl::Status JobRegistry::Write(const JobEntry& entry) const {
  if (folder_.empty()) return absl::OkStatus();
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!error) fs::permissions(folder_, fs::perms::owner_all, error);
  if (error) return ErrnoStatus(error.value(), fmt::format("cannot make {}", folder_));
  const master::Json json = {{"schemaVersion", kSchemaVersion},
                             {"jobId", entry.job_id},
                             {"jobDir", entry.job_dir},
                             {"provider", entry.provider},
                             {"beganTime", FormatTime(entry.began_ms)},
                             {"stays", entry.stays}};
  return WriteFileAtomically(
      fmt::format("{}/{}.{:08x}.json", folder_, entry.job_id, Crc32c(entry.job_dir)),
      master::DumpJsonForPeople(json));
}

absl::StatusOr<master::JobState> ReadStateOf(const std::string& job_dir) {
  const std::string path = master::JobDirectory(job_dir).state_json();
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxStateBytes));
  auto state = master::DecodeJobState(text);
  if (state.ok()) return state;
  return absl::InvalidArgumentError(
      fmt::format("{}: {}", path, Printable(std::string(state.status().message()))));
}

std::vector<JobEntry> JobRegistry::Read(std::vector<std::string>* damaged) const {
  std::vector<JobEntry> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    // Folders beside them are those of jobs that came to this machine by ssh.
    if (!path.ends_with(".json") || it->is_directory(error)) continue;
    absl::StatusOr<JobEntry> entry = ReadEntry(path);
    if (entry.ok()) {
      entries.push_back(*std::move(entry));
    } else {
      damaged->push_back(fmt::format("{} is left out: {}", Printable(path),
                                     Printable(std::string(entry.status().message()))));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const JobEntry& a, const JobEntry& b) {
    return std::tie(b.began_ms, a.job_id, a.job_dir) < std::tie(a.began_ms, b.job_id, b.job_dir);
  });
  std::sort(damaged->begin(), damaged->end());
  return entries;
}

absl::StatusOr<JobEntry> JobRegistry::Find(const std::string& word) const {
  if (word.empty()) {
    return absl::InvalidArgumentError("no job is named; write a JOB of launch jobs list");
  }
  std::vector<std::string> damaged;
  const std::vector<JobEntry> entries = Read(&damaged);
  std::error_code error;
  const bool folder = fs::is_directory(word, error);
  if (folder && word.find('/') != std::string::npos) return OfDirectory(word, entries);
  std::vector<const JobEntry*> same, begin;
  for (const JobEntry& entry : entries) {
    if (entry.job_id == word) same.push_back(&entry);
    if (entry.job_id.starts_with(word)) begin.push_back(&entry);
  }
  if (same.size() == 1) return *same[0];
  if (same.size() > 1) return absl::InvalidArgumentError(Several(word, same));
  if (folder) return OfDirectory(word, entries);
  if (begin.size() == 1) return *begin[0];
  if (begin.size() > 1) return absl::InvalidArgumentError(Several(word, begin));
  return absl::NotFoundError(
      fmt::format("{} is no job of launch jobs list, and no job directory", Printable(word)));
}

}  // namespace muster::cluster
