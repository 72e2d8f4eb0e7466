#include "cluster/journal.h"

#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "master/json_fields.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using master::DumpJson;
using master::Json;

constexpr int kSchemaVersion = 1;
constexpr std::string_view kSuffix = ".jsonl";

std::string PathOf(const std::string& folder, const std::string& job_id) {
  return fmt::format("{}/{}{}", folder, job_id, kSuffix);
}

absl::Status Sync(int fd, const std::string& path) {
  return fsync(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "cannot write " + path);
}

absl::Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "cannot open " + folder);
  const absl::Status synced = Sync(fd, folder);
  close(fd);
  return synced;
}

std::string EncodeHead(const JournalHead& head, int64_t now_ms) {
  std::string cluster;
  (void)google::protobuf::util::MessageToJsonString(head.cluster, &cluster);
  return DumpJson({{"schemaVersion", kSchemaVersion},
                   {"jobId", head.job_id},
                   {"run", head.run},
                   {"jobDir", head.job_dir},
                   {"owner", head.owner},
                   {"began", FormatTime(now_ms)},
                   {"cluster", cluster}});
}

absl::Status Damaged(const std::string& path, const std::string& why) {
  return absl::DataLossError(
      fmt::format("{}:1: {}: remove it; launch gc --config FILE, with the job's file, gives back "
                  "what may be left",
                  path, why));
}

absl::Status DecodeHead(std::string_view line, JournalHead* head) {
  ASSIGN_OR_RETURN(const Json json, master::ParseJsonObject(line));
  master::Fields fields(json);
  RETURN_IF_ERROR(fields.ReadSchemaVersion(kSchemaVersion));
  std::string cluster;
  for (const char* name : {"jobId", "run", "jobDir", "owner", "cluster"}) fields.Require(name);
  fields.Read("jobId", &head->job_id);
  fields.Read("run", &head->run);
  fields.Read("jobDir", &head->job_dir);
  fields.Read("owner", &head->owner);
  fields.Read("cluster", &cluster);
  RETURN_IF_ERROR(fields.status());
  if (!google::protobuf::util::JsonStringToMessage(cluster, &head->cluster).ok()) {
    return absl::InvalidArgumentError("cluster: not one of a job file");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<MachineJournal>> MachineJournal::Begin(const std::string& folder,
                                                                      const JournalHead& head,
                                                                      int64_t now_ms) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return ErrnoStatus(error.value(), "cannot make " + folder);
  fs::permissions(folder, fs::perms::owner_all, error);
  const std::string path = PathOf(folder, head.job_id);
  // Whole under its name or not there at all; link() does not replace what is.
  const std::string draft = fmt::format("{}/.{}.{}", folder, head.job_id, getpid());
  const int fd = open(draft.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, "cannot make " + draft);
  std::unique_ptr<MachineJournal> journal(new MachineJournal(path, fd));
  journal->head_ = head;
  flock(fd, LOCK_EX | LOCK_NB);
  absl::Status made = journal->Append(EncodeHead(head, now_ms));
  if (made.ok() && link(draft.c_str(), path.c_str()) != 0) {
    made = errno == EEXIST ? absl::AlreadyExistsError(path + " is there")
                           : ErrnoStatus(errno, "cannot make " + path);
  }
  unlink(draft.c_str());
  RETURN_IF_ERROR(made);
  RETURN_IF_ERROR(SyncFolder(folder));
  return journal;
}

absl::StatusOr<std::unique_ptr<MachineJournal>> MachineJournal::TakeOver(
    const std::string& folder, const std::string& job_id) {
  const std::string path = PathOf(folder, job_id);
  const int fd = open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    return errno == ENOENT ? absl::NotFoundError(path + " is not there")
                           : ErrnoStatus(errno, "cannot open " + path);
  }
  std::unique_ptr<MachineJournal> journal(new MachineJournal(path, fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(fmt::format("the launcher of job {} lives", job_id));
  }
  struct stat info {};
  if (fstat(fd, &info) != 0 || info.st_nlink == 0) {
    return absl::NotFoundError(path + " is not there any more");
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  bool first = true;
  for (const auto part : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::string_view line(part.data(), part.size());
    if (std::exchange(first, false)) {
      if (const absl::Status read = DecodeHead(line, &journal->head_); !read.ok()) {
        return Damaged(path, std::string(read.message()));
      }
      continue;
    }
    // The last line may be half of one: what it was to announce was never asked for.
    const auto json = master::ParseJsonObject(line);
    if (!json.ok()) {
      // Or one that was damaged later, and announced something.
      journal->asked_ms_ = std::max<int64_t>(journal->asked_ms_, 1);
      continue;
    }
    master::Fields fields(*json);
    fields.ReadTime("asking", &journal->asked_ms_);
    fields.ReadTime("leftUntil", &journal->left_until_ms_);
    fields.ReadTime("stopped", &journal->stopped_ms_);
    fields.Read("disks", &journal->disks_);
  }
  if (first) return Damaged(path, "it is empty");
  if (journal->head_.job_id != job_id) {
    return Damaged(path, "it is that of " + journal->head_.job_id);
  }
  return journal;
}

std::vector<std::string> MachineJournal::Jobs(const std::string& folder) {
  std::vector<std::string> jobs;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".") || !name.ends_with(kSuffix)) continue;
    jobs.push_back(name.substr(0, name.size() - kSuffix.size()));
  }
  std::sort(jobs.begin(), jobs.end());
  return jobs;
}

MachineJournal::~MachineJournal() { close(fd_); }

absl::Status MachineJournal::Append(const std::string& line) {
  RETURN_IF_ERROR(WriteAll(fd_, line + "\n", path_));
  return Sync(fd_, path_);
}

absl::Status MachineJournal::Asking(const std::string& name, int64_t now_ms) {
  asked_ms_ = now_ms;
  return Append(DumpJson({{"asking", FormatTime(now_ms)}, {"name", name}}));
}

absl::Status MachineJournal::Leaving(int64_t until_ms) {
  left_until_ms_ = until_ms;
  return Append(DumpJson({{"leftUntil", FormatTime(until_ms)}}));
}

absl::Status MachineJournal::Stopping(int64_t now_ms, const std::string& disks) {
  stopped_ms_ = now_ms;
  disks_ = disks;
  return Append(DumpJson({{"stopped", FormatTime(now_ms)}, {"disks", disks}}));
}

absl::Status MachineJournal::Close() {
  if (unlink(path_.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, "cannot remove " + path_);
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
