// JobQueue: this user's jobs that wait on this machine until what their job files allow to run at
// once (cluster.limits) lets them begin: for each provider the one of the highest priority first,
// of these the oldest.
//
//   <folder>/ID.json, ID.runs.json   a launch that waits, and one that was let begin
//
// A launcher holds its file by flock while it lives, so its place is free the moment it is gone,
// whatever ended it; a file that nobody holds is nobody's, and goes. What runs is told by these
// files and, since jobs outlive their launchers, by the registry.
//
// JobQueue is a value that works on the disk: thread-safe. Times are Unix milliseconds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/node_set.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct QueuedJob {
  std::string job_id;
  std::string job_dir;   // absolute
  std::string provider;  // "LOCAL", "SSH" …
  int priority = 0;
  int64_t machines = 0;
  int64_t queued_ms = 0;
  pid_t pid = 0;  // of its launcher
};

class JobQueue;

// A launcher's own place; free with the object. Owned by one thread.
class QueueTicket {
 public:
  ~QueueTicket();
  QueueTicket(const QueueTicket&) = delete;
  QueueTicket& operator=(const QueueTicket&) = delete;

  struct Turn {
    bool begins = false;
    size_t place = 0, of = 0;  // 1: the next
    std::string runs;          // what it waits for: "2 jobs on 8 machines run: a, b"; may be ""
  };
  // Whether it is this one's turn; then it counts as one that runs.
  absl::StatusOr<Turn> Ask(const Limits& limits);
  // Another process holds it from now on: this one, after a fork. The former one leaves by _exit.
  absl::Status TakeOver();

 private:
  friend class JobQueue;
  QueueTicket(const JobQueue& queue, QueuedJob job, std::string path, int fd);
  absl::Status Write();

  const JobQueue& queue_;
  QueuedJob job_;
  std::string path_;
  const int fd_;
};

class JobQueue {
 public:
  struct Options {
    std::string folder;    // made by the first Enter
    std::string registry;  // of cluster/job_registry.h
    std::string journals;  // of cluster/journal.h
    std::function<int64_t()> now_ms;
  };
  explicit JobQueue(Options options) : options_(std::move(options)) {}

  // Queues a job of this process. Borrows the queue.
  absl::StatusOr<std::unique_ptr<QueueTicket>> Enter(QueuedJob job) const;
  // Those that wait, provider by provider, the next first.
  std::vector<QueuedJob> Waiting() const;
  // Of them the one that `word` names: its id or its directory, or (`beginning`) the beginning of
  // its id alone; none when there is no such one.
  std::optional<QueuedJob> FindWaiting(const std::string& word, bool beginning = false) const;

 private:
  friend class QueueTicket;
  struct Entry {
    QueuedJob job;
    std::string path;
    bool runs = false;
  };
  // The folder's lock, released with it; null where there is no folder.
  std::unique_ptr<int, void (*)(int*)> Lock() const;
  // All that somebody holds. PRECONDITION: locked.
  std::vector<Entry> Read() const;
  // What runs there beside `job_dir`.
  struct Load {
    int64_t jobs = 0, machines = 0;
    std::vector<std::string> names;
  };
  Load LoadOf(const QueuedJob& job, const std::vector<Entry>& entries) const;

  const Options options_;
};

// Waits for the turn of `job` and tells the user, at most `max_wait_ms`. `leave`: called once it is
// clear that it has to wait; may fork, and returns in the process that waits on; may be null. Fails
// with Cancelled when the user interrupts, and where it can never begin.
absl::StatusOr<std::unique_ptr<QueueTicket>> AwaitTurn(const JobQueue& queue, const QueuedJob& job,
                                                       const Limits& limits, int64_t max_wait_ms,
                                                       const Patience& patience, const Say& say,
                                                       const std::function<void()>& leave);

}  // namespace muster::cluster
