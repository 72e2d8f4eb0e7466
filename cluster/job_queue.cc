#include "cluster/job_queue.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <tuple>
#include <utility>

#include "cluster/attach_command.h"
#include "cluster/job_look.h"
#include "cluster/job_registry.h"
#include "cluster/journal.h"
#include "cluster/printable.h"
#include "cluster/providers.h"
#include "cluster/random_hex.h"
#include "master/json_fields.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int kSchemaVersion = 1;
constexpr int64_t kMaxBytes = 64 << 10;
constexpr char kRuns[] = ".runs.json";
constexpr size_t kIdBytes = 6;
constexpr int64_t kLookMs = 1'000;
constexpr size_t kNamesShown = 3;
// Of a job whose file does not say, and for what comes before and after training.
constexpr int64_t kMaxRunningMs = 604'800'000, kAroundTrainingMs = 1'800'000;

std::string Encode(const QueuedJob& job) {
  return master::DumpJson({{"schemaVersion", kSchemaVersion},
                           {"jobId", job.job_id},
                           {"jobDir", job.job_dir},
                           {"provider", job.provider},
                           {"priority", job.priority},
                           {"machines", job.machines},
                           {"queued", FormatTime(job.queued_ms)},
                           {"pid", job.pid}});
}

absl::StatusOr<QueuedJob> Decode(std::string_view text) {
  ASSIGN_OR_RETURN(const master::Json json, master::ParseJsonObject(text));
  master::Fields fields(json);
  RETURN_IF_ERROR(fields.ReadSchemaVersion(kSchemaVersion));
  QueuedJob job;
  for (const char* name : {"jobId", "jobDir", "provider", "pid"}) fields.Require(name);
  fields.Read("jobId", &job.job_id);
  fields.Read("jobDir", &job.job_dir);
  fields.Read("provider", &job.provider);
  fields.Read("priority", &job.priority);
  fields.Read("machines", &job.machines);
  fields.ReadTime("queued", &job.queued_ms);
  fields.Read("pid", &job.pid);
  RETURN_IF_ERROR(fields.status());
  for (std::string* text : {&job.job_id, &job.job_dir, &job.provider}) *text = Printable(*text);
  return job;
}

bool IsBefore(const QueuedJob& a, const QueuedJob& b) {
  return std::tie(a.provider, b.priority, a.queued_ms, a.pid) <
         std::tie(b.provider, a.priority, b.queued_ms, b.pid);
}

// Whether a job that nobody here follows may still run.
bool MayGoOn(const JobEntry& entry, const std::string& journals, int64_t now_ms) {
  Cluster::Provider provider = Cluster::LOCAL;
  if (!Cluster::Provider_Parse(entry.provider, &provider)) return false;
  if (MakesMachines(provider)) {
    return std::ranges::count(MachineJournal::Jobs(journals), entry.job_id) > 0;
  }
  const auto job = ReadJobOf(entry.job_dir);
  const auto& scheduling =
      job.ok() ? job->training_input().scheduling() : Scheduling::default_instance();
  const int64_t running_ms = scheduling.has_max_running_time()
                                 ? scheduling.max_running_time().seconds() * 1000
                                 : kMaxRunningMs;
  return now_ms < entry.began_ms + running_ms + kAroundTrainingMs;
}

std::string Count(int64_t number, const char* what) {
  return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

}  // namespace

std::unique_ptr<int, void (*)(int*)> JobQueue::Lock() const {
  const auto release = [](int* fd) {
    close(*fd);
    delete fd;
  };
  const int fd =
      open((options_.folder + "/.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return {nullptr, release};
  std::unique_ptr<int, void (*)(int*)> lock(new int(fd), release);
  while (flock(fd, LOCK_EX) != 0 && errno == EINTR) {
  }
  return lock;
}

std::vector<JobQueue::Entry> JobQueue::Read() const {
  std::vector<Entry> entries;
  std::error_code error;
  for (const fs::directory_entry& file : fs::directory_iterator(options_.folder, error)) {
    const std::string path = file.path().string();
    if (!path.ends_with(".json") || !fs::is_regular_file(file.symlink_status(error))) continue;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) continue;
    const bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (!held) unlink(path.c_str());
    close(fd);
    const auto text = held ? ReadSmallFile(path, kMaxBytes) : absl::NotFoundError("");
    const auto job = text.ok() ? Decode(*text) : text.status();
    if (job.ok()) entries.push_back({*job, path, path.ends_with(kRuns)});
  }
  return entries;
}

JobQueue::Load JobQueue::LoadOf(const QueuedJob& job, const std::vector<Entry>& entries) const {
  Load load;
  std::set<std::string> seen = {job.job_dir};
  const auto add = [&](const std::string& dir, const std::string& name, int64_t machines) {
    if (!seen.insert(dir).second) return;
    ++load.jobs;
    load.machines += machines;
    load.names.push_back(name);
  };
  for (const Entry& entry : entries) {
    if (!entry.runs || entry.job.provider != job.provider) continue;
    add(entry.job.job_dir, entry.job.job_id, entry.job.machines);
  }
  std::vector<std::string> damaged;
  for (const JobEntry& entry : JobRegistry(options_.registry).Read(&damaged)) {
    if (entry.provider != job.provider || seen.contains(entry.job_dir)) continue;
    const JobLook look = Look(entry);
    if (!look.state || master::IsFinal(look.state->state)) continue;
    const bool detached =
        look.shown == "DETACHED" && MayGoOn(entry, options_.journals, options_.now_ms());
    if (!look.holder.held && !detached) continue;
    add(entry.job_dir, entry.job_id + (detached ? " (left)" : ""),
        static_cast<int64_t>(look.state->replicas.size()));
  }
  return load;
}

absl::StatusOr<std::unique_ptr<QueueTicket>> JobQueue::Enter(QueuedJob job) const {
  std::error_code error;
  fs::create_directories(options_.folder, error);
  if (!error) fs::permissions(options_.folder, fs::perms::owner_all, error);
  const auto lock = Lock();
  if (error || lock == nullptr) {
    return ErrnoStatus(
        error ? error.value() : errno,
        fmt::format("cannot use {}, where jobs wait for cluster.limits", options_.folder));
  }
  job.queued_ms = options_.now_ms();
  job.pid = getpid();
  std::string path =
      fmt::format("{}/{}-{}.json", options_.folder, job.queued_ms, RandomHex(kIdBytes));
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoStatus(errno, "cannot make " + path);
  flock(fd, LOCK_EX | LOCK_NB);
  std::unique_ptr<QueueTicket> ticket(new QueueTicket(*this, std::move(job), std::move(path), fd));
  RETURN_IF_ERROR(ticket->Write());
  return ticket;
}

std::vector<QueuedJob> JobQueue::Waiting() const {
  std::vector<QueuedJob> waiting;
  const auto lock = Lock();
  if (lock == nullptr) return waiting;
  for (const Entry& entry : Read()) {
    if (!entry.runs) waiting.push_back(entry.job);
  }
  std::ranges::sort(waiting, IsBefore);
  return waiting;
}

std::optional<QueuedJob> JobQueue::FindWaiting(const std::string& word, bool beginning) const {
  std::error_code error;
  const std::string dir = fs::absolute(word, error).lexically_normal().string();
  std::vector<QueuedJob> begin;
  for (const QueuedJob& job : Waiting()) {
    if (job.job_id == word || job.job_dir == word || job.job_dir == dir) return job;
    if (job.job_id.starts_with(word) && !word.empty()) begin.push_back(job);
  }
  if (!beginning || begin.size() != 1) return std::nullopt;
  return begin.front();
}

QueueTicket::QueueTicket(const JobQueue& queue, QueuedJob job, std::string path, int fd)
    : queue_(queue), job_(std::move(job)), path_(std::move(path)), fd_(fd) {}

QueueTicket::~QueueTicket() {
  unlink(path_.c_str());
  close(fd_);
}

absl::Status QueueTicket::Write() {
  if (ftruncate(fd_, 0) != 0 || lseek(fd_, 0, SEEK_SET) != 0) {
    return ErrnoStatus(errno, "cannot write " + path_);
  }
  return WriteAll(fd_, Encode(job_), path_);
}

absl::Status QueueTicket::TakeOver() {
  const auto lock = queue_.Lock();
  job_.pid = getpid();
  return Write();
}

absl::StatusOr<QueueTicket::Turn> QueueTicket::Ask(const Limits& limits) {
  const auto lock = queue_.Lock();
  const std::vector<JobQueue::Entry> entries = queue_.Read();
  Turn turn;
  turn.place = 1;
  for (const JobQueue::Entry& entry : entries) {
    if (entry.runs || entry.job.provider != job_.provider) continue;
    ++turn.of;
    turn.place += entry.path != path_ && IsBefore(entry.job, job_) ? 1 : 0;
  }
  // Those behind the next wait for it, whatever they want.
  if (turn.place > 1) return turn;
  const JobQueue::Load load = queue_.LoadOf(job_, entries);
  turn.begins = (limits.jobs() == 0 || load.jobs < limits.jobs()) &&
                (limits.machines() == 0 || load.machines + job_.machines <= limits.machines());
  if (turn.begins) {
    const std::string runs = path_.substr(0, path_.rfind(".json")) + kRuns;
    if (rename(path_.c_str(), runs.c_str()) != 0) {
      return ErrnoStatus(errno, "cannot rename " + path_);
    }
    path_ = runs;
    return turn;
  }
  const size_t shown = std::min(load.names.size(), kNamesShown);
  turn.runs = fmt::format(
      "{} on {} run: {}{}", Count(load.jobs, "job"), Count(load.machines, "machine"),
      fmt::join(load.names.begin(), load.names.begin() + static_cast<ptrdiff_t>(shown), ", "),
      load.names.size() > shown ? ", …" : "");
  return turn;
}

absl::StatusOr<std::unique_ptr<QueueTicket>> AwaitTurn(const JobQueue& queue, const QueuedJob& job,
                                                       const Limits& limits, int64_t max_wait_ms,
                                                       const Patience& patience, const Say& say,
                                                       const std::function<void()>& leave) {
  if (limits.machines() > 0 && job.machines > limits.machines()) {
    return absl::FailedPreconditionError(
        fmt::format("the job has {}, where cluster.limits.machines lets {} run at once: write "
                    "more, or fewer workers and parameter servers",
                    Count(job.machines, "machine"), limits.machines()));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<QueueTicket> ticket, queue.Enter(job));
  const int64_t began = patience.now_ms();
  std::string told;
  bool left = leave == nullptr;
  for (;;) {
    ASSIGN_OR_RETURN(const QueueTicket::Turn turn, ticket->Ask(limits));
    if (turn.begins) return ticket;
    if (!std::exchange(left, true)) {
      leave();
      RETURN_IF_ERROR(ticket->TakeOver());
    }
    const std::string line =
        fmt::format("waiting for cluster.limits: place {} of {}{}{}", turn.place, turn.of,
                    turn.runs.empty() ? "" : "; ", turn.runs);
    if (line != std::exchange(told, line)) say(line);
    if (patience.now_ms() - began > max_wait_ms) {
      return absl::DeadlineExceededError(
          "the job's turn has not come within scheduling.maxWaitTime: write more of it, higher "
          "cluster.limits, or end a job of launch jobs list");
    }
    if (!patience.pause(kLookMs)) {
      return absl::CancelledError("the job does not wait any more: nothing was started");
    }
  }
}

}  // namespace muster::cluster
