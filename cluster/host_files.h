// HostFiles: the files of a job's directory between this machine and the hosts of its run: what is
// newer goes there before it, comes back after it, and what it has learnt also meanwhile
// (cluster/job_copy.h). The first host is the master's, whose directory counts.
//
// Owned by the launcher's main thread. Borrows the links.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/job_copy.h"
#include "cluster/node.pb.h"
#include "cluster/node_link.h"
#include "telemetry/status.h"

namespace muster::cluster {

class HostFiles {
 public:
  // Serves all links until `done`; fails with `what` after the timeout, or when a link does.
  using Await = std::function<absl::Status(const std::function<bool()>& done, int64_t timeout_ms,
                                           const char* what)>;
  // `job_dir`: on this machine. `answer_ms`: for a host to list its files.
  HostFiles(std::string job_dir, const std::vector<std::unique_ptr<NodeLink>>& hosts,
            int64_t answer_ms, Await await);

  // What a host has said.
  void OnFiles(size_t host, const FileList& files);
  void OnPart(size_t host, const FilePart& part);
  void OnWritten(size_t host);
  // Parts of files that have come.
  size_t parts() const { return come_; }

  // While the job runs: asks for what it is time for.
  void Tick(int64_t now_ms) { copy_.Tick(now_ms); }
  // Brings what is newer on the first host.
  absl::Status Pull();
  // Brings what is newer here to it.
  absl::Status Push();
  // Brings all that differs there, and removes checkpoints that it has dropped.
  absl::Status Gather();

  struct Log {
    size_t host = 0;
    std::string role;  // "worker-2"
    std::string path;  // on this machine
  };
  // Brings those that are longer there.
  absl::Status PullLogs(const std::vector<Log>& logs);

 private:
  void SendList();
  void SendGet(size_t host, const std::string& path);
  // Which files the first host has.
  absl::StatusOr<FileList> ListThere();
  absl::Status SendFile(const std::string& path, int64_t modified_ns);
  absl::Status Fetch(const FileList& there, const std::set<std::string>& wanted);
  // Has `host` send a file; it comes to parts_.
  void Ask(size_t host, const std::string& path);
  // Puts what was asked for into the folder `to`.
  absl::Status AwaitFiles(const std::string& to);

  const std::string job_dir_;
  const std::vector<std::unique_ptr<NodeLink>>& hosts_;
  const int64_t answer_ms_;
  const Await await_;
  std::unique_ptr<FileList> list_;
  std::set<std::pair<size_t, std::string>> awaited_;  // files: host and path
  std::vector<FilePart> parts_;
  size_t come_ = 0;     // parts
  size_t written_ = 0;  // files that the first host has put in place
  JobCopy copy_;
};

}  // namespace muster::cluster
