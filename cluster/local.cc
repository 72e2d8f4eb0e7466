#include "cluster/local.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <memory>
#include <utility>

#include "cluster/display.h"
#include "cluster/lifeline.h"
#include "cluster/local_record.h"
#include "cluster/process.h"
#include "cluster/status_pipe.h"
#include "master/job_directory.h"
#include "rpc/grpc_environment.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::JobLock;
using master::RunState;

// The master inherits the lock, so that the directory is free only when it, too, is gone.
constexpr int kLockFd = 5;
constexpr int kTailLines = 10;
constexpr int64_t kFrameMs = 200;

int64_t MonotonicMillis() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

std::string MakeToken() {
  unsigned char bytes[16];
  std::string token;
  if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) return token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

// SIGINT, SIGTERM and SIGHUP as something to poll; SIGPIPE ignored. Restores what was there.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, &old_mask_);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &old_pipe_);
  }
  ~Signals() {
    close(fd_);
    sigaction(SIGPIPE, &old_pipe_, nullptr);
    sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }
  bool Take() {
    signalfd_siginfo info{};
    return read(fd_, &info, sizeof(info)) == sizeof(info);
  }

 private:
  int fd_;
  sigset_t old_mask_{};
  struct sigaction old_pipe_ {};
};

// The writing end stays open in the launcher alone.
class LifelinePipe {
 public:
  LifelinePipe() {
    if (pipe2(fds_, O_CLOEXEC) != 0) fds_[0] = fds_[1] = -1;
  }
  ~LifelinePipe() {
    for (const int fd : fds_) {
      if (fd >= 0) close(fd);
    }
  }
  LifelinePipe(const LifelinePipe&) = delete;
  LifelinePipe& operator=(const LifelinePipe&) = delete;
  int read_fd() const { return fds_[0]; }

 private:
  int fds_[2] = {-1, -1};
};

FollowerOptions MakeFollowerOptions(const LocalJob& job) {
  FollowerOptions options;
  options.job_id = job.job_id;
  for (const LocalRole& role : job.roles) {
    options.roles.push_back({role.role, role.index, role.sized_by});
  }
  options.start_timeout_ms = job.start_timeout_ms;
  options.max_running_ms = job.max_running_ms;
  return options;
}

class LocalRun {
 public:
  LocalRun(const LocalJob& job, const LocalOptions& options, const JobLock& lock,
           StatusPipe& status)
      : job_(job),
        options_(options),
        dir_(job.job_dir),
        lock_(lock),
        status_(status),
        token_(MakeToken()),
        screen_(options.out_fd, options.term.empty() ? nullptr : options.term.c_str()),
        follower_(MakeFollowerOptions(job), MonotonicMillis()),
        processes_(job.roles.size()) {}

  int Run() {
    Start(0);
    status_.CloseWriteEnd();
    while (!follower_.done()) {
      if (!others_started_ && !follower_.master_address().empty()) StartOthers();
      Wait();
      follower_.OnTick(MonotonicMillis());
      Act();
      Show();
    }
    return Finish();
  }

 private:
  void Start(size_t i) {
    const LocalRole& role = job_.roles[i];
    ProcessSpec spec;
    spec.name = fmt::format("{}-{}", role.role, role.index);
    spec.argv = {fmt::format("{}/{}", options_.program_dir, role.program)};
    if (i > 0) {
      spec.argv.push_back(fmt::format("--master={}", follower_.master_address()));
      spec.argv.push_back(fmt::format("--role={}", role.role));
      spec.argv.push_back(fmt::format("--index={}", role.index));
    }
    spec.argv.push_back(fmt::format("--job-dir={}", job_.job_dir));
    spec.argv.push_back(fmt::format("--threads={}", role.threads));
    if (role.first_core >= 0) spec.argv.push_back(fmt::format("--first-core={}", role.first_core));
    spec.argv.insert(spec.argv.end(), role.arguments.begin(), role.arguments.end());
    if (i > 0 && !job_.shared_memory) spec.argv.push_back("--shared-memory=false");
    spec.environment = Environment(role);
    spec.log_path = dir_.log(role.role, role.index);
    spec.fds = {{lifeline_.read_fd(), kLifelineFd}};
    if (i == 0) {
      spec.fds.emplace_back(status_.write_fd(), master::kStatusFd);
      spec.fds.emplace_back(lock_.fd(), kLockFd);
    }
    absl::StatusOr<std::unique_ptr<Process>> process = Process::Start(spec);
    if (!process.ok()) {
      follower_.OnError(std::string(process.status().message()), MonotonicMillis());
      return;
    }
    processes_[i] = *std::move(process);
    follower_.OnStarted(i, MonotonicMillis());
  }

  void StartOthers() {
    others_started_ = true;
    for (size_t i = 1; i < job_.roles.size(); ++i) Start(i);
  }

  std::vector<std::string> Environment(const LocalRole& role) const {
    TfCluster tf = job_.tf;
    tf.master_address = follower_.master_address();
    std::vector<std::pair<std::string, std::string>> additions = {
        {"MUSTER_JOB_TOKEN", token_},
        {kLifelineVariable, fmt::format("{}", kLifelineFd)},
        {"TF_CONFIG", TfConfig(tf, role.role, role.index)},
        {"OMP_NUM_THREADS", fmt::format("{}", role.threads)},
        // Idle threads that spin take the cores from the other roles.
        {"OMP_WAIT_POLICY", "passive"},
        {"GOMP_SPINCOUNT", "0"},
    };
    additions.insert(additions.end(), rpc::kGrpcEnvironment.begin(), rpc::kGrpcEnvironment.end());
    std::vector<std::string> environment;
    for (const std::string& entry : options_.environment) {
      const bool replaced = std::any_of(
          additions.begin(), additions.end(),
          [&entry](const auto& addition) { return entry.starts_with(addition.first + "="); });
      if (!replaced) environment.push_back(entry);
    }
    for (const auto& [name, value] : additions) environment.push_back(name + "=" + value);
    return environment;
  }

  // Sleeps until something happens, then tells the follower what.
  void Wait() {
    std::vector<pollfd> fds = {{signals_.fd(), POLLIN, 0}, {status_.read_fd(), POLLIN, 0}};
    for (const auto& process : processes_) {
      if (process != nullptr && process->running()) fds.push_back({process->pidfd(), POLLIN, 0});
    }
    const int64_t now = MonotonicMillis();
    int64_t wake = std::min(follower_.NextDeadline(), now + 1000);
    if (screen_.live()) wake = std::min(wake, now + kFrameMs);
    poll(fds.data(), fds.size(), static_cast<int>(std::max<int64_t>(0, wake - now)));
    while (signals_.Take()) follower_.OnInterrupt(MonotonicMillis());
    DrainStatus();
    TakeExits();
    for (size_t i = 0; i < processes_.size(); ++i) {
      if (processes_[i] == nullptr || follower_.registered(i)) continue;
      if (const auto activity = processes_[i]->Activity()) {
        follower_.OnActivity(i, *activity, MonotonicMillis());
      }
    }
  }

  void DrainStatus() {
    status_.Drain([this](const absl::StatusOr<master::StatusLine>& line) {
      if (line.ok()) {
        follower_.OnLine(*line, MonotonicMillis());
        // Plain lines tell every state, also those that several lines at once pass through, and
        // what was said in between.
        if (!screen_.live()) {
          PrintMessages();
          Show();
        }
      } else {
        follower_.OnBadLine(line.status());
      }
    });
  }

  void TakeExits() {
    std::vector<std::pair<size_t, ExitStatus>> exits;
    for (size_t i = processes_.size(); i-- > 0;) {
      if (processes_[i] == nullptr || !processes_[i]->running()) continue;
      if (const std::optional<ExitStatus> exit = processes_[i]->Poll())
        exits.emplace_back(i, *exit);
    }
    if (exits.empty()) return;
    // Whatever the master said before these roles ended must be heard first. The master comes last:
    // others may have taken it along.
    DrainStatus();
    for (const auto& [i, exit] : exits) {
      follower_.OnExit(i, exit, MonotonicMillis());
      ends_.push_back({job_.roles[i].role, job_.roles[i].index, processes_[i]->pid(), exit});
    }
  }

  void Act() {
    const std::vector<Follower::Action> actions = follower_.TakeActions();
    PrintMessages();
    if (!actions.empty()) TellFailure();
    for (const Follower::Action action : actions) {
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (processes_[i] == nullptr) continue;
        if (action == Follower::Action::kInterruptMaster && i == 0) processes_[i]->Signal(SIGINT);
        if (action == Follower::Action::kTerminateAll) processes_[i]->Signal(SIGTERM);
        if (action == Follower::Action::kKillAll) processes_[i]->Kill();
      }
    }
  }

  void PrintMessages() {
    for (const std::string& message : follower_.TakeMessages()) screen_.Print(message);
  }

  // One plain line, and the end of the log that explains it.
  void TellFailure() {
    if (told_failure_ || !follower_.failure().has_value()) return;
    told_failure_ = true;
    const Follower::Failure& failure = *follower_.failure();
    std::string text = fmt::format("error: {}\n", failure.text);
    if (failure.role.has_value() && processes_[*failure.role] != nullptr) {
      const Process& process = *processes_[*failure.role];
      const auto lines = LastLines(process.log_path(), process.log_start(), kTailLines);
      text += lines.empty() ? fmt::format("{} is empty\n", process.log_path())
                            : fmt::format("the last lines of {}:\n", process.log_path());
      for (const std::string& line : lines) text += fmt::format("  {}\n", line);
    } else {
      text += fmt::format("the logs of all roles lie in {}\n", dir_.logs());
    }
    screen_.Clear();
    WriteError(text);
  }

  void Show() {
    const int64_t now = MonotonicMillis();
    const DisplayState state = follower_.Display(now);
    if (screen_.live()) {
      screen_.Show(RenderLive(state, screen_.width() - 1));
      return;
    }
    if (state.state != shown_.state || state.stage != shown_.stage) {
      screen_.Print(fmt::format("{}{}{}", master::RunStateName(state.state),
                                state.stage.empty() ? "" : ": ", state.stage));
    }
    const bool evaluated = state.validation_accuracy != shown_.validation_accuracy;
    const bool due = now >= shown_ms_ + options_.plain_interval_ms && state.step > shown_.step;
    const bool last = state.step == state.total_steps && state.step > shown_.step;
    if (evaluated || due || last) {
      screen_.Print(RenderPlain(state));
      shown_ms_ = now;
      shown_ = state;
    }
    shown_.state = state.state;
    shown_.stage = state.stage;
  }

  int Finish() {
    DrainStatus();
    PrintMessages();
    Show();
    screen_.Clear();
    TellFailure();
    const absl::Status status = WriteLastRecord(job_, dir_, follower_, ends_, UnixMillis());
    if (!status.ok()) {
      WriteError(fmt::format("warning: {}\n", std::string(status.message())));
    }
    if (follower_.outcome() != RunState::kFailed) {
      screen_.Print(Summary(dir_, follower_, MonotonicMillis()));
    }
    return follower_.exit_code();
  }

  void WriteError(const std::string& text) {
    if (write(options_.err_fd, text.data(), text.size()) < 0) return;
  }

  const LocalJob& job_;
  const LocalOptions& options_;
  const JobDirectory dir_;
  const JobLock& lock_;
  StatusPipe& status_;
  const std::string token_;
  Signals signals_;
  LifelinePipe lifeline_;
  Screen screen_;
  Follower follower_;
  std::vector<std::unique_ptr<Process>> processes_;  // by role
  std::vector<RoleEnd> ends_;
  bool others_started_ = false;
  bool told_failure_ = false;
  DisplayState shown_;
  int64_t shown_ms_ = 0;
};

absl::StatusOr<std::unique_ptr<JobLock>> Prepare(const LocalJob& job) {
  const JobDirectory dir(job.job_dir);
  RETURN_IF_ERROR(master::CreateJobDirectory(dir));
  const int64_t now = UnixMillis();
  ASSIGN_OR_RETURN(std::unique_ptr<JobLock> lock, JobLock::Take(dir, now));
  RETURN_IF_ERROR(WriteFirstRecord(job, dir, now));
  return lock;
}

}  // namespace

int RunLocal(const LocalJob& job, const LocalOptions& options) {
  const absl::StatusOr<std::unique_ptr<JobLock>> lock = Prepare(job);
  const absl::StatusOr<std::unique_ptr<StatusPipe>> status = StatusPipe::Open();
  for (const absl::Status& problem : {lock.status(), status.status()}) {
    if (problem.ok()) continue;
    const std::string text = fmt::format("error: {}\n", std::string(problem.message()));
    if (write(options.err_fd, text.data(), text.size()) < 0) return 2;
    return 2;
  }
  return LocalRun(job, options, **lock, **status).Run();
}

}  // namespace muster::cluster
