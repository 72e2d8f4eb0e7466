#include "cluster/host_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <system_error>

#include "cluster/node_wire.h"
#include "master/job_files.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCopyMs = 120'000;  // without anything that comes or goes

}  // namespace

HostFiles::HostFiles(std::string job_dir, const std::vector<std::unique_ptr<NodeLink>>& hosts,
                     int64_t answer_ms, Await await)
    : job_dir_(std::move(job_dir)),
      hosts_(hosts),
      answer_ms_(answer_ms),
      await_(std::move(await)),
      copy_(job_dir_, {.list = [this] { SendList(); },
                       .get = [this](const std::string& path) { SendGet(0, path); }}) {}

void HostFiles::OnFiles(size_t host, const FileList& files) {
  if (host == 0 && !copy_.OnFiles(files)) list_ = std::make_unique<FileList>(files);
}

void HostFiles::OnWritten(size_t host) {
  if (host == 0) ++written_;
}

void HostFiles::OnPart(size_t host, const FilePart& part) {
  ++come_;
  if (host == 0 && copy_.OnPart(part)) return;
  // What nobody has asked for is nobody's to write.
  const auto asked = awaited_.find({host, part.path()});
  if (asked == awaited_.end()) return;
  if (part.last()) awaited_.erase(asked);
  parts_.push_back(part);
}

absl::Status HostFiles::Pull() {
  ASSIGN_OR_RETURN(const FileList list, ListThere());
  ASSIGN_OR_RETURN(const auto here, master::ListJobFiles(job_dir_));
  std::set<std::string> wanted;
  for (const FileList::File& file : list.files()) {
    const auto it = here.find(file.path());
    if (it == here.end() || it->second.modified_ns < file.modified_ns()) wanted.insert(file.path());
  }
  return Fetch(list, wanted);
}

absl::Status HostFiles::Push() {
  ASSIGN_OR_RETURN(const FileList list, ListThere());
  ASSIGN_OR_RETURN(const auto here, master::ListJobFiles(job_dir_));
  std::map<std::string, int64_t> there;
  for (const FileList::File& file : list.files()) there[file.path()] = file.modified_ns();
  size_t sent = 0;
  written_ = 0;
  for (const auto& [path, file] : here) {
    const auto it = there.find(path);
    if (it != there.end() && it->second >= file.modified_ns) continue;
    ++sent;
    RETURN_IF_ERROR(SendFile(path, file.modified_ns));
  }
  return await_([&] { return written_ == sent; }, kCopyMs,
                "the master's host does not take the job's files");
}

absl::Status HostFiles::Gather() {
  ASSIGN_OR_RETURN(const FileList list, ListThere());
  ASSIGN_OR_RETURN(const auto here, master::ListJobFiles(job_dir_));
  std::set<std::string> there, wanted;
  for (const FileList::File& file : list.files()) {
    if (!master::IsPathInside(file.path())) continue;
    there.insert(file.path());
    const auto it = here.find(file.path());
    if (it == here.end() || it->second != master::JobFile{file.bytes(), file.modified_ns()}) {
      wanted.insert(file.path());
    }
  }
  RETURN_IF_ERROR(Fetch(list, wanted));
  RemoveDroppedCheckpoints(job_dir_, here, there);
  return absl::OkStatus();
}

absl::Status HostFiles::PullLogs(const std::vector<Log>& logs) {
  const std::string coming = job_dir_ + "/logs/coming";
  for (const Log& log : logs) Ask(log.host, fmt::format("logs/{}.log", log.role));
  const absl::Status got = AwaitFiles(coming);
  std::error_code error;
  for (const Log& log : got.ok() ? logs : std::vector<Log>()) {
    std::error_code none;
    const std::string from = fmt::format("{}/logs/{}.log", coming, log.role);
    const auto size = fs::file_size(from, error);
    const auto here = fs::file_size(log.path, none);
    if (!error && (none || size >= here)) fs::rename(from, log.path, error);
  }
  fs::remove_all(coming, error);
  return got;
}

void HostFiles::SendList() {
  NodeRequest request;
  request.mutable_list();
  hosts_[0]->Send(request);
}

void HostFiles::SendGet(size_t host, const std::string& path) {
  NodeRequest request;
  request.mutable_get()->set_path(path);
  hosts_[host]->Send(request);
}

absl::StatusOr<FileList> HostFiles::ListThere() {
  copy_.Pause();
  RETURN_IF_ERROR(await_([this] { return copy_.idle(); }, kCopyMs,
                         "the master's host does not send the job's files"));
  list_.reset();
  SendList();
  RETURN_IF_ERROR(await_([this] { return list_ != nullptr; }, answer_ms_,
                         "the master's host does not list the job's files"));
  return *list_;
}

absl::Status HostFiles::SendFile(const std::string& path, int64_t modified_ns) {
  for (int64_t offset = 0;; offset += kMaxPartBytes) {
    ASSIGN_OR_RETURN(std::string bytes,
                     master::ReadPart(job_dir_ + "/" + path, offset, kMaxPartBytes));
    NodeRequest request;
    FilePart& part = *request.mutable_put();
    part.set_path(path);
    part.set_last(bytes.size() < kMaxPartBytes);
    part.set_bytes(std::move(bytes));
    part.set_modified_ns(modified_ns);
    const bool last = part.last();
    hosts_[0]->Send(request);
    // One part at a time: a checkpoint may be larger than memory.
    RETURN_IF_ERROR(await_([this] { return !hosts_[0]->sending(); }, kCopyMs,
                           "the master's host does not take the job's files"));
    if (last) return absl::OkStatus();
  }
}

absl::Status HostFiles::Fetch(const FileList& there, const std::set<std::string>& wanted) {
  for (const FileList::File& file : there.files()) {
    if (wanted.contains(file.path())) Ask(0, file.path());
  }
  return AwaitFiles(job_dir_);
}

void HostFiles::Ask(size_t host, const std::string& path) {
  awaited_.emplace(host, path);
  SendGet(host, path);
}

absl::Status HostFiles::AwaitFiles(const std::string& to) {
  master::JobFileWriter writer(to);
  absl::Status written;
  RETURN_IF_ERROR(await_(
      [&] {
        for (const FilePart& part : std::exchange(parts_, {})) {
          // A file that has gone meanwhile is none.
          if (!part.error().empty()) continue;
          written.Update(writer.Write(part.path(), part.bytes(), part.last(), part.modified_ns()));
        }
        return awaited_.empty() || !written.ok();
      },
      kCopyMs, "a host does not send the job's files"));
  return written;
}

}  // namespace muster::cluster
