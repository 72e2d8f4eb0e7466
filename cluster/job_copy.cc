#include "cluster/job_copy.h"

#include <absl/strings/numbers.h>
#include <absl/strings/string_view.h>
#include <absl/strings/strip.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kStateMs = 2000;
constexpr int64_t kListMs = 10'000;
constexpr const char* kStateFile = "state.json";
constexpr const char* kCheckpoints = "checkpoints/";
constexpr const char* kStep = "step-";
constexpr const char* kManifest = "/manifest.json";

// The folder of the newest checkpoint, which has a manifest: "checkpoints/step-20/". "": there is
// none.
std::string NewestCheckpointOf(const FileList& files) {
  int64_t newest = -1;
  for (const FileList::File& file : files.files()) {
    absl::string_view name = file.path();
    int64_t step = -1;
    if (!absl::ConsumePrefix(&name, kCheckpoints) || !absl::ConsumePrefix(&name, kStep) ||
        !absl::ConsumeSuffix(&name, kManifest) || !absl::SimpleAtoi(name, &step)) {
      continue;
    }
    newest = std::max(newest, step);
  }
  return newest < 0 ? "" : fmt::format("{}{}{}/", kCheckpoints, kStep, newest);
}

}  // namespace

void JobCopy::Ask(const std::string& path) {
  if (asked_.insert(path).second) host_.get(path);
}

void JobCopy::Tick(int64_t now_ms) {
  paused_ = false;
  if (now_ms - state_ms_ >= kStateMs && !asked_.contains(kStateFile)) {
    state_ms_ = now_ms;
    Ask(kStateFile);
  }
  const bool copying = asked_.size() > asked_.count(kStateFile);
  if (copying || listing_) return;
  if (!manifest_.empty()) {
    const std::string manifest = std::exchange(manifest_, "");
    if (!failed_) Ask(manifest);
    return;
  }
  if (now_ms - list_ms_ < kListMs) return;
  list_ms_ = now_ms;
  listing_ = true;
  host_.list();
}

bool JobCopy::OnFiles(const FileList& files) {
  if (!std::exchange(listing_, false)) return false;
  const auto here = master::ListJobFiles(job_dir_);
  if (paused_ || !here.ok()) return true;
  const std::string newest = NewestCheckpointOf(files);
  failed_ = false;
  bool whole = true;
  std::set<std::string> there;
  for (const FileList::File& file : files.files()) {
    const std::string& path = file.path();
    if (!master::IsPathInside(path)) continue;
    there.insert(path);
    const bool in_newest = !newest.empty() && path.starts_with(newest);
    if (path == kStateFile || (path.starts_with(kCheckpoints) && !in_newest)) continue;
    const auto it = here->find(path);
    if (it != here->end() && it->second == master::JobFile{file.bytes(), file.modified_ns()}) {
      continue;
    }
    whole &= !in_newest;
    if (in_newest && path.ends_with(kManifest)) {
      manifest_ = path;
    } else {
      Ask(path);
    }
  }
  there_ = std::move(there);
  // Not before there is a newer one here.
  if (whole && !newest.empty()) RemoveDroppedCheckpoints(job_dir_, *here, there_);
  return true;
}

bool JobCopy::OnPart(const FilePart& part) {
  const auto asked = asked_.find(part.path());
  if (asked == asked_.end()) return false;
  const bool good = part.error().empty() &&
                    writer_.Write(part.path(), part.bytes(), part.last(), part.modified_ns()).ok();
  failed_ |= !good && part.path().starts_with(kCheckpoints);
  if (!part.last()) return true;
  asked_.erase(asked);
  if (good && part.path().starts_with(kCheckpoints) && part.path().ends_with(kManifest)) {
    const auto here = master::ListJobFiles(job_dir_);
    if (here.ok()) RemoveDroppedCheckpoints(job_dir_, *here, there_);
  }
  return true;
}

void RemoveDroppedCheckpoints(const std::string& job_dir,
                              const std::map<std::string, master::JobFile>& here,
                              const std::set<std::string>& there) {
  for (const auto& [path, file] : here) {
    std::error_code error;
    if (!path.starts_with(kCheckpoints) || there.contains(path)) continue;
    fs::remove(job_dir + "/" + path, error);
    fs::remove((job_dir / fs::path(path)).parent_path(), error);  // when it is empty
  }
}

}  // namespace muster::cluster
