#include "cluster/keeper.h"

#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "cluster/follower.h"
#include "cluster/idle_watch.h"
#include "cluster/keeper_socket.h"
#include "cluster/local_processes.h"
#include "cluster/node.pb.h"
#include "cluster/node_files.h"
#include "cluster/node_logs.h"
#include "cluster/node_wire.h"
#include "cluster/outbox.h"
#include "cluster/printable.h"
#include "cluster/run_memory.h"
#include "cluster/side_task.h"
#include "cluster/signals.h"
#include "cluster/systemd_scope.h"
#include "cluster/unattended.h"
#include "cluster/watchdog.h"
#include "master/job_directory.h"
#include "master/job_files.h"
#include "telemetry/file.h"
#include "telemetry/log.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::JobLock;

// How long what a role has written to its log may wait here.
constexpr int kLogPauseMs = 50;
constexpr int64_t kActivityPauseMs = 500;
// For a launcher that was asked for to come.
constexpr int64_t kFirstMs = 10'000;
// What may wait for a launcher that reads slowly, before parts of files and logs do.
constexpr size_t kMaxWaitingBytes = size_t{4} << 20;

class Keeper : RoleProcesses::Listener {
 public:
  // `with_host`: as ServeKeeper's.
  Keeper(const NodeOptions& options, LocalProcesses& processes, int listener, bool with_host)
      : options_(options), processes_(processes), listener_(listener), with_host_(with_host) {}
  ~Keeper() override {
    if (client_ >= 0) close(client_);
  }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  void Run() {
    while (!end_ && !Done()) {
      Wait();
      processes_.Collect(*this);
      if (client_ >= 0 && outbox_.size() < kMaxWaitingBytes) {
        logs_.SendNew(sender_);
        if (files_) files_->SendPart();
      }
      if (client_ >= 0 && !outbox_.Write(client_)) DropLauncher("is gone");
      if (client_ >= 0 && MonotonicMillis() - heard_ms_ > options_.silence_ms) {
        DropLauncher("is silent");
      }
      GoOn();
      if (Holds() && client_ < 0) WriteEnd();
    }
    if (unattended_ && !end_) WriteEnd();
    if (rented_ && left_ && !with_host_) EndMachine();
    // The launcher, too, is to see the end of this process only after that of the roles.
    for (const size_t role : running_) processes_.Kill(role);
    while (!running_.empty()) {
      std::vector<pollfd> fds;
      processes_.Watch(&fds);
      poll(fds.data(), fds.size(), 100);
      processes_.Collect(*this);
    }
  }

 private:
  // Whether nothing is left to do and nobody here to ask for more.
  bool Done() const {
    if (client_ >= 0 || !running_.empty() || Holds()) return false;
    const int64_t first_ms = with_host_ ? options_.first_ms : kFirstMs;
    return unattended_ || came_ || MonotonicMillis() - born_ms_ > first_ms;
  }

  // Whether the job has ended here, and what it has written waits for somebody who fetches it.
  bool Holds() const {
    return rented_ && left_ && has_master_ && running_.empty() && MonotonicMillis() < until_ms_;
  }

  void Wait() {
    std::vector<pollfd> fds = {{signals_.fd(), POLLIN, 0}, {listener_, POLLIN, 0}};
    fds.push_back({client_, static_cast<int16_t>(outbox_.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    if (notices_ != nullptr) fds.push_back({notices_->fd(), POLLIN, 0});
    processes_.Watch(&fds);
    const bool parts = client_ >= 0 && files_ && files_->sending() && outbox_.empty();
    poll(fds.data(), fds.size(), parts ? 0 : logs_.following() ? kLogPauseMs : 1000);
    while (signals_.Take() != 0) OnTerminate();
    if (fds[2].revents != 0) Hear();
    if (fds[1].revents != 0) Accept();
    if (notices_ != nullptr) ReadNotices();
  }

  // Asks the machine's metadata service again and again, in a process beside this one.
  void WatchNotices(const std::string& provider) {
    Cluster::Provider of = Cluster::LOCAL;
    if (provider.empty() || !Cluster::Provider_Parse(provider, &of)) return;
    takes_back_ = true;
    auto notices = SideTask::Start([this, of](const SideTask::Tell& tell) {
      for (;;) {
        const auto notice = AskForNotice(of, options_.metadata, UnixMillis());
        if (notice) return tell(fmt::format("{}", notice->ends_ms));
        poll(nullptr, 0, static_cast<int>(options_.notice_pause_ms));
      }
    });
    if (notices.ok()) notices_ = *std::move(notices);
    if (!notices.ok()) Note(std::string(notices.status().message()));
  }

  void ReadNotices() {
    std::string said;
    const bool goes_on = notices_->Read([&](const std::string& line) { said = line; });
    if (!goes_on) notices_.reset();
    int64_t ends_ms = 0;
    if (absl::SimpleAtoi(said, &ends_ms)) OnMachineEnds(ends_ms);
  }

  // The roles leave as long as there is time, and the launcher looks for another machine.
  void OnMachineEnds(int64_t ends_ms) {
    if (std::exchange(machine_ends_, true)) return;
    Note(fmt::format("this machine is taken back at {}", FormatTime(ends_ms)));
    NodeEvent event;
    event.mutable_machine_ends()->set_ends_ms(ends_ms);
    Send(event);
    for (const size_t role : running_) processes_.Signal(role, SIGTERM);
  }

  void OnTerminate() {
    // A machine that is shut down says so to everything that runs there.
    if (takes_back_ && !machine_ends_ && !running_.empty()) return OnMachineEnds(UnixMillis());
    Note("asked to end the job by a signal");
    // Only the master can end it in order.
    if (!unattended_ || !has_master_ || running_.empty()) {
      end_ = true;
    } else {
      unattended_->OnTerminate();
    }
  }

  void Accept() {
    const int fd = AcceptOwn(listener_);
    if (fd < 0) return;
    // Whoever has gone already is in nobody's way; its last words count.
    pollfd gone{client_, POLLRDHUP, 0};
    while (client_ >= 0 && poll(&gone, 1, 0) > 0) Hear();
    if (client_ >= 0) {
      NodeEvent event;
      event.mutable_error()->set_text(fmt::format(
          "{} follows the job and was heard of {} s ago: end that one first, which keeps the job "
          "when it detaches",
          launcher_, (MonotonicMillis() - heard_ms_) / 1000));
      const std::string frame = EncodeFrame(event);
      (void)!write(fd, frame.data(), frame.size());
      close(fd);
      return;
    }
    came_ = true;
    client_ = fd;
    heard_ms_ = MonotonicMillis();
    reader_ = FrameReader();
    launcher_ = "another launcher";
    accepted_ = false;
  }

  void DropLauncher(const char* why) {
    if (unattended_) Note(fmt::format("the launcher, {}, {}", launcher_, why));
    close(client_);
    client_ = -1;
    outbox_.Clear();
    logs_.Pause();
    if (files_) files_.emplace(directory_, sender_);
    if (unattended_) unattended_->OnLauncher(false);
  }

  void Hear() {
    const int client = client_;
    const auto state = reader_.Read(client, [this](std::string_view frame) {
      NodeRequest request;
      if (!request.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
        return absl::InvalidArgumentError("not a request");
      }
      heard_ms_ = MonotonicMillis();
      return Handle(request);
    });
    if (state.ok() && *state == FrameReader::State::kOpen) return;
    if (!state.ok()) {
      OnError(fmt::format("the launcher's request is refused: {}",
                          std::string(state.status().message())));
      outbox_.Write(client_);
    }
    DropLauncher(state.ok() ? "is gone" : "is not to be understood");
  }

  absl::Status Handle(const NodeRequest& request) {
    switch (request.kind_case()) {
      case NodeRequest::kOpen:
        if (const absl::Status opened = Open(request.open()); !opened.ok()) {
          OnError(std::string(opened.message()));
        }
        return absl::OkStatus();
      case NodeRequest::kPing:
        return absl::OkStatus();
      case NodeRequest::kEnd:
        // A launcher that was refused ends nobody else's job.
        end_ = accepted_;
        return absl::OkStatus();
      default:
        if (!accepted_) return absl::InvalidArgumentError("no job is open");
    }
    if (request.has_start()) return Start(request.start());
    if (request.has_leave()) {
      const LeaveJob& leave = request.leave();
      const int64_t now = MonotonicMillis();
      unattended_->Stay();
      left_ = true;
      until_ms_ = now + std::max<int64_t>(0, leave.until_in_ms());
      stop_ms_.reset();
      if (leave.stop_in_ms() > 0) stop_ms_ = now + leave.stop_in_ms();
      stop_reason_ = Printable(leave.stop_reason());
      NodeEvent event;
      event.mutable_left();
      Send(event);
    } else if (request.has_follow()) {
      logs_.Follow(request.follow().role(), request.follow().received());
      memory_.OnLogBytes(request.follow().role(), request.follow().log_bytes());
    } else if (request.has_signal()) {
      const auto role = static_cast<size_t>(request.signal().role());
      const int signal = request.signal().signal();
      if (signal == SIGINT && role == master_) unattended_->OnInterrupt(MonotonicMillis());
      signal == SIGKILL ? processes_.Kill(role) : processes_.Signal(role, signal);
    } else {
      return files_->Handle(request);
    }
    return absl::OkStatus();
  }

  absl::Status Open(const OpenJob& open) {
    const int64_t now = MonotonicMillis();
    // Where the job has ended somebody may come for what it has left.
    if (unattended_ && !open.attach() && !Holds()) {
      return absl::FailedPreconditionError(
          fmt::format("the job runs there without a launcher: launch attach follows it, launch "
                      "jobs cancel ends it ({})",
                      directory_));
    }
    if (!unattended_) {
      const JobDirectory dir(open.directory());
      if (open.lock()) {
        ASSIGN_OR_RETURN(lock_, JobLock::Take(dir, UnixMillis()));
        processes_.GiveLock(lock_->fd());
      }
      directory_ = open.directory();
      max_running_ms_ = open.max_running_ms();
      rented_ = open.rented();
      idle_limit_ = {open.busy_below(), open.idle_ms()};
      idle_.emplace(idle_limit_, /*machines=*/1);
      processes_.WatchUse(idle_limit_);
      WatchNotices(open.notices_of());
      unattended_.emplace(Unattended::Options{.max_running_ms = max_running_ms_}, open.stay(), now);
      if (auto log = Log::ToFile(dir.log("keeper", open.host()), "keeper"); log.ok()) {
        log_ = *std::move(log);
      }
      // Not out of what the user has put this machine's launcher in, or Slurm its step.
      if (!open.here() && !with_host_) EnterScopeOf(directory_);
    }
    accepted_ = true;
    launcher_ = Printable(open.launcher());
    files_.emplace(directory_, sender_);
    unattended_->OnLauncher(true);
    if (open.attach()) {
      Note("followed by " + launcher_);
      for (const NodeEvent& event : memory_.Events(now)) Send(event);
    }
    NodeEvent event;
    event.mutable_opened()->set_directory(directory_);
    event.mutable_opened()->set_runs(!Holds());
    event.mutable_opened()->set_build_id(options_.build_id);
    Send(event);
    return absl::OkStatus();
  }

  void EnterScopeOf(const std::string& directory) {
    const absl::Status entered =
        EnterScope(options_.systemd, options_.environment, "Muster job in " + directory);
    if (!entered.ok()) {
      Note("part of its login: no scope of systemd's: " + std::string(entered.message()));
    }
  }

  absl::Status Start(const StartRole& start) {
    if (!start.log_path().starts_with(directory_ + "/") ||
        !master::IsPathInside(std::string_view(start.log_path()).substr(directory_.size() + 1)) ||
        start.program().empty() || start.program().find('/') != std::string::npos) {
      return absl::InvalidArgumentError("a role outside of its job's directory");
    }
    RoleCommand command;
    command.name = start.name();
    command.program = start.program();
    command.arguments.assign(start.arguments().begin(), start.arguments().end());
    command.environment.assign(start.environment().begin(), start.environment().end());
    command.log_path = start.log_path();
    command.is_master = start.is_master();
    const auto role = static_cast<size_t>(start.role());
    if (start.is_master()) {
      has_master_ = true;
      master_ = role;
    }
    starts_[role] = {start.name(), start.log_bytes()};
    logs_.Add(start.role(), start.log_path(), /*wanted=*/start.log_bytes() >= 0);
    processes_.Start(role, command);
    return absl::OkStatus();
  }

  // What is to be done when no launcher says so.
  void GoOn() {
    if (!unattended_ || Holds()) return;
    const int64_t now = MonotonicMillis();
    if (client_ < 0 && stop_ms_ && now >= *stop_ms_) Stop(stop_reason_);
    if (client_ < 0 && idle_->IsIdle(now)) Stop(IdleReason(idle_limit_));
    const auto action = unattended_->Tick(now);
    if (!action) return;
    if (unattended_->time_is_over() && !stopped_) {
      stopped_ = true;
      if (reason_.empty()) reason_ = TimeIsOver(max_running_ms_);
      Note(reason_);
    }
    if (*action == Unattended::Action::kInterruptMaster) {
      Note("the master is asked to finish the step, save a checkpoint and stop all");
      if (has_master_) processes_.Signal(master_, SIGINT);
      return;
    }
    const bool kill = *action == Unattended::Action::kKillAll;
    Note(kill ? "all roles here are killed" : "all roles here are told to end");
    for (const size_t role : running_) {
      // SIGTERM would ask workers to leave.
      kill ? processes_.Kill(role) : processes_.Signal(role, SIGINT);
    }
  }

  // Has the master end the job in order, as when its time is over.
  void Stop(const std::string& reason) {
    stop_ms_.reset();
    if (!has_master_ || stopped_) return;
    stopped_ = true;
    reason_ = reason;
    Note(reason_);
    unattended_->OnTerminate();
  }

  // Nothing is left to do on this machine, and its watchdog need not wait.
  void EndMachine() {
    const absl::Status said = WriteFileAtomically(
        fmt::format("{}/{}", options_.home, kMachineEndsFile), "nothing is left to do\n");
    if (!said.ok()) Note(std::string(said.message()));
  }

  // The job has ended while nobody followed it: its last record, where the master has not written
  // it.
  void WriteEnd() {
    if (std::exchange(ended_, true)) return;
    Note("the job has ended here");
    if (!has_master_) return;
    const std::string path = JobDirectory(directory_).state_json();
    auto state = master::ReadJobState(path);
    if (!state.ok()) return Note(std::string(state.status().message()));
    const bool said = master::IsFinal(state->state);
    if (said && !(stopped_ && state->state == master::RunState::kCancelled)) return;
    if (!said) {
      state->state = master::RunState::kFailed;
      state->end_ms = UnixMillis();
    }
    state->error_message = reason_.empty() ? "its roles ended without a word" : reason_;
    state->update_ms = UnixMillis();
    const absl::Status written = master::WriteJobState(path, *state);
    Note(written.ok() ? "reason: " + state->error_message : std::string(written.message()));
  }

  void Note(const std::string& text) {
    if (log_ != nullptr) log_->Info("{}", text);
  }

  void Send(const NodeEvent& event) {
    if (client_ >= 0) outbox_.Add(EncodeFrame(event));
  }

  void OnStarted(size_t role, int64_t /*age_ms*/) override {
    running_.insert(role);
    const auto& [name, log_bytes] = starts_[role];
    memory_.OnStarted(static_cast<int64_t>(role), name, log_bytes, MonotonicMillis());
    NodeEvent event;
    event.mutable_started()->set_role(static_cast<int64_t>(role));
    Send(event);
  }
  void OnStatusLine(const absl::StatusOr<master::StatusLine>& line, int64_t /*age_ms*/) override {
    if (!line.ok()) return OnError(std::string(line.status().message()));
    memory_.OnLine(*line, MonotonicMillis());
    const auto* state = std::get_if<master::StateLine>(&*line);
    if (state != nullptr) trains_ = state->state == master::RunState::kRunning;
    if (trains_) unattended_->OnRunning(MonotonicMillis());
    // The other machines are not seen from here; what they do shows in steps.
    const auto* progress = std::get_if<master::ProgressLine>(&*line);
    if (progress != nullptr && std::exchange(step_, progress->step) != progress->step) {
      idle_->Reset();
    }
    const auto* replica = std::get_if<master::ReplicaLine>(&*line);
    if (replica != nullptr) {
      const std::string name = fmt::format("{}-{}", replica->role, replica->index);
      const bool gone = replica->state == "LEFT" || replica->state == "LOST";
      gone ? (void)gone_.insert(name) : (void)gone_.erase(name);
    }
    NodeEvent event;
    event.mutable_status()->set_line(master::EncodeStatusLine(*line));
    Send(event);
  }
  void OnMachineUsed(size_t /*machine*/, double share) override {
    if (trains_) idle_->OnUse(0, share, MonotonicMillis());
    NodeEvent event;
    event.mutable_used()->set_share(share);
    Send(event);
  }
  bool WantsActivity(size_t role) const override {
    const auto told = activity_ms_.find(role);
    return client_ >= 0 &&
           (told == activity_ms_.end() || MonotonicMillis() - told->second >= kActivityPauseMs);
  }
  void OnActivity(size_t role, const ProcessActivity& activity) override {
    activity_ms_[role] = MonotonicMillis();
    NodeEvent event;
    event.mutable_activity()->set_role(static_cast<int64_t>(role));
    event.mutable_activity()->set_cpu_ticks(activity.cpu_ticks);
    event.mutable_activity()->set_asleep(activity.asleep);
    Send(event);
  }
  void OnExit(size_t role, pid_t pid, const ExitStatus& status) override {
    running_.erase(role);
    // Others want the host.
    if (running_.empty() && with_host_) {
      until_ms_ = std::min(until_ms_, MonotonicMillis() + options_.fetch_ms);
    }
    const std::string& name = starts_[role].first;
    Note(fmt::format("{} {}", name, DescribeExit(status)));
    // A worker that is killed, or is said to have left or to be lost, ends the job only where the
    // master says so.
    const bool spared = name.starts_with("worker-") &&
                        (EndedFromOutside(status) || (gone_.contains(name) && status.signal == 0));
    if (!spared && !status.ok() && reason_.empty()) {
      reason_ = fmt::format("{} {}", name, DescribeExit(status));
    }
    memory_.OnExit(static_cast<int64_t>(role), pid, status);
    if (!spared) unattended_->OnEnd(MonotonicMillis());
    logs_.SendRest(static_cast<int64_t>(role), sender_);
    NodeEvent event;
    event.mutable_exited()->set_role(static_cast<int64_t>(role));
    event.mutable_exited()->set_pid(pid);
    event.mutable_exited()->set_code(status.code);
    event.mutable_exited()->set_signal(status.signal);
    Send(event);
  }
  void OnError(const std::string& text) override {
    NodeEvent event;
    event.mutable_error()->set_text(text);
    Send(event);
  }

  const NodeOptions& options_;
  LocalProcesses& processes_;
  const int listener_;
  const bool with_host_;
  const std::function<void(const NodeEvent&)> sender_ = [this](const NodeEvent& event) {
    Send(event);
  };
  Signals signals_;
  const int64_t born_ms_ = MonotonicMillis();
  bool came_ = false;  // somebody has

  int client_ = -1;
  std::string launcher_;
  bool accepted_ = false;  // the job was opened to it
  int64_t heard_ms_ = 0;
  FrameReader reader_;
  Outbox outbox_;

  std::string directory_;  // of the job
  int64_t max_running_ms_ = 0;
  std::unique_ptr<JobLock> lock_;
  std::unique_ptr<Log> log_;              // may be null
  std::optional<Unattended> unattended_;  // once a job is open
  std::optional<NodeFiles> files_;        // the same
  std::unique_ptr<SideTask> notices_;     // null: nobody says anything (any more)
  bool takes_back_ = false;               // a cloud may end this machine
  bool machine_ends_ = false;             // and does
  NodeLogs logs_;
  RunMemory memory_;
  std::map<size_t, std::pair<std::string, int64_t>> starts_;  // by role: name, StartRole.log_bytes
  std::set<size_t> running_;
  std::map<size_t, int64_t> activity_ms_;  // when it was told
  bool has_master_ = false;
  size_t master_ = 0;
  bool rented_ = false, left_ = false;  // as OpenJob and LeaveJob have it
  int64_t until_ms_ = 0;
  IdleLimit idle_limit_;
  std::optional<IdleWatch> idle_;  // once a job is open
  bool trains_ = false;            // the master says so
  int64_t step_ = 0;
  std::optional<int64_t> stop_ms_;
  std::string stop_reason_;
  std::set<std::string> gone_;  // workers that have left or are lost, as the master here says
  std::string reason_;          // why it ends, as far as it is seen from here
  bool stopped_ = false;        // for that reason, by this keeper
  bool ended_ = false;          // WriteEnd has done its work
  bool end_ = false;            // the launcher has said so
};

// What the relay is told before anything is served: "ok", or why there is no keeper.
void Tell(int fd, std::string_view text) {
  (void)!write(fd, text.data(), text.size());
  close(fd);
}

int Keep(const NodeOptions& options, const std::string& name, int ready, bool with_host) {
  const auto listener = ListenAsKeeper(name);
  // Another launcher may have been faster: its keeper will answer.
  if (absl::IsAlreadyExists(listener.status())) return 0;
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const auto processes = LocalProcesses::Make(options.program_dir, options.environment);
  if (!listener.ok() || !processes.ok() || null < 0) {
    const absl::Status why = !listener.ok() ? listener.status() : processes.status();
    Tell(ready, why.ok() ? "cannot open /dev/null" : std::string(why.message()));
    return 1;
  }
  // The way to the launcher must end with the relay.
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  Tell(ready, "ok");
  Keeper(options, **processes, *listener, with_host).Run();
  return 0;
}

}  // namespace

absl::Status StartKeeper(const NodeOptions& options, const std::string& name) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  const pid_t child = fork();
  if (child == 0) {
    // A session of its own, then not its leader: no terminal can become its.
    setsid();
    close(ready[0]);
    if (fork() != 0) _exit(0);
    _exit(Keep(options, name, ready[1], /*with_host=*/false));
  }
  close(ready[1]);
  std::string said;
  char buffer[512];
  for (ssize_t n; (n = read(ready[0], buffer, sizeof(buffer))) != 0;) {
    if (n < 0 && errno != EINTR) break;
    if (n > 0) said.append(buffer, static_cast<size_t>(n));
  }
  close(ready[0]);
  if (child < 0) return absl::UnavailableError("cannot make another process");
  waitpid(child, nullptr, 0);
  if (said.empty() || said == "ok") return absl::OkStatus();
  return absl::UnavailableError(said);
}

absl::StatusOr<std::string> AbsoluteOn(const NodeOptions& options, const std::string& directory) {
  if (directory.starts_with("~/")) return options.home + directory.substr(1);
  if (directory.starts_with("/")) return directory;
  return absl::InvalidArgumentError(
      fmt::format("{} is no absolute path: name one in cluster.ssh.directory", directory));
}

int ServeKeeper(const NodeOptions& options, const std::string& directory, int place) {
  umask(0077);
  absl::StatusOr<std::string> name = AbsoluteOn(options, directory);
  if (name.ok()) {
    const absl::Status made = master::CreateJobDirectory(JobDirectory(*name));
    name = made.ok() ? KeeperName(*name, place) : made;
  }
  if (name.ok()) return Keep(options, *name, dup(STDERR_FILENO), /*with_host=*/true);
  fmt::print(stderr, "{}\n", std::string(name.status().message()));
  return 1;
}

}  // namespace muster::cluster
