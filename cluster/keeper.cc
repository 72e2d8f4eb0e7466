#include "cluster/keeper.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "cluster/end_record.h"
#include "cluster/follower.h"
#include "cluster/idle_watch.h"
#include "cluster/launcher_connection.h"
#include "cluster/node.pb.h"
#include "cluster/node_files.h"
#include "cluster/node_logs.h"
#include "cluster/notice_watch.h"
#include "cluster/printable.h"
#include "cluster/run_memory.h"
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
  // As RunKeeper has them.
  Keeper(const NodeOptions& options, LocalProcesses& processes, int listener, bool with_host)
      : options_(options),
        processes_(processes),
        with_host_(with_host),
        launcher_(listener, options.silence_ms,
                  {.on_request = [this](const NodeRequest& request) { return Handle(request); },
                   .is_over = [this] { return end_ || Done(); },
                   .on_gone = [this](const std::string& name,
                                     const char* why) { OnLauncherGone(name, why); }}) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  void Run() {
    while (!end_ && !Done()) {
      Wait();
      processes_.Collect(*this);
      if (launcher_.is_there() && launcher_.waiting_bytes() < kMaxWaitingBytes) {
        logs_.SendNew(sender_);
        if (files_) files_->SendPart();
      }
      launcher_.Write();
      GoOn();
      if (Holds() && !launcher_.is_there()) WriteEnd();
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
    if (launcher_.is_there() || !running_.empty() || Holds()) return false;
    if (unattended_) return true;
    const int64_t age_ms = MonotonicMillis() - born_ms_;
    // Whoever came to a host and was gone before it opened the job may come again.
    return with_host_ ? age_ms > options_.first_ms : launcher_.came() || age_ms > kFirstMs;
  }

  // Whether the job has ended here, and what it has written waits for somebody who fetches it.
  bool Holds() const {
    return rented_ && left_ && has_master_ && running_.empty() && MonotonicMillis() < until_ms_;
  }

  void Wait() {
    std::vector<pollfd> fds = {{signals_.fd(), POLLIN, 0}};
    launcher_.Watch(&fds);
    notices_.Watch(&fds);
    processes_.Watch(&fds);
    const bool parts =
        launcher_.is_there() && files_ && files_->sending() && launcher_.waiting_bytes() == 0;
    poll(fds.data(), fds.size(), parts ? 0 : logs_.following() ? kLogPauseMs : 1000);
    while (signals_.Take() != 0) OnTerminate();
    launcher_.Read();
    if (const auto ends_ms = notices_.Take()) OnMachineEnds(*ends_ms);
  }

  // The roles leave as long as there is time, and the launcher looks for another machine.
  void OnMachineEnds(int64_t ends_ms) {
    if (std::exchange(machine_ends_, true)) return;
    Note(fmt::format("this machine is taken back at {}", FormatTime(ends_ms)));
    NodeEvent event;
    event.mutable_machine_ends()->set_ends_ms(ends_ms);
    launcher_.Send(event);
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

  void OnLauncherGone(const std::string& name, const char* why) {
    if (unattended_) Note(fmt::format("the launcher, {}, {}", name, why));
    logs_.Pause();
    if (files_) files_.emplace(directory_, sender_);
    if (unattended_) unattended_->OnLauncher(false);
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
        end_ = launcher_.accepted();
        // Whoever has followed the job to its end gives the machine back, or runs the job again.
        if (end_ && followed_) left_ = false;
        return absl::OkStatus();
      default:
        if (!launcher_.accepted()) return absl::InvalidArgumentError("no job is open");
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
      launcher_.Send(event);
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
    followed_ = open.attach() && !Holds();
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
      Cluster::Provider provider = Cluster::LOCAL;
      takes_back_ = Cluster::Provider_Parse(open.notices_of(), &provider);
      unattended_.emplace(Unattended::Options{.max_running_ms = max_running_ms_}, open.stay(), now);
      if (auto log = Log::ToFile(dir.log("keeper", open.host()), "keeper"); log.ok()) {
        log_ = *std::move(log);
      }
      // Not out of what the user has put this machine's launcher in, or Slurm its step.
      if (!open.here() && !with_host_) EnterScopeOf(directory_);
      if (takes_back_) {
        const absl::Status begun =
            notices_.Begin(provider, options_.metadata, options_.notice_pause_ms);
        if (!begun.ok()) Note(std::string(begun.message()));
      }
    }
    launcher_.Accept(Printable(open.launcher()));
    files_.emplace(directory_, sender_);
    unattended_->OnLauncher(true);
    if (open.attach()) {
      Note("followed by " + Printable(open.launcher()));
      for (const NodeEvent& event : memory_.Events(now)) launcher_.Send(event);
    }
    NodeEvent event;
    event.mutable_opened()->set_directory(directory_);
    event.mutable_opened()->set_runs(!Holds());
    event.mutable_opened()->set_build_id(options_.build_id);
    event.mutable_opened()->set_ends_with_login(ends_with_login_);
    launcher_.Send(event);
    return absl::OkStatus();
  }

  void EnterScopeOf(const std::string& directory) {
    const auto entered =
        EnterScope(options_.systemd, options_.environment, "Muster job in " + directory);
    if (!entered.ok()) {
      Note("part of its login: no scope of systemd's: " + std::string(entered.status().message()));
    }
    ends_with_login_ =
        !entered.value_or(false) && LoginEndsAll(options_.systemd, options_.environment);
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
    const bool alone = !launcher_.is_there();
    if (alone && stop_ms_ && now >= *stop_ms_) Stop(stop_reason_);
    if (alone && idle_->IsIdle(now)) Stop(IdleReason(idle_limit_));
    const auto action = unattended_->Tick(now);
    if (!action) return;
    if (unattended_->time_is_over() && !record_.stopped()) {
      record_.Stop(record_.reason().empty() ? TimeIsOver(max_running_ms_) : record_.reason());
      Note(record_.reason());
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
    if (!has_master_ || record_.stopped()) return;
    record_.Stop(reason);
    Note(reason);
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
    const auto reason = record_.Write(directory_, UnixMillis());
    if (!reason.ok()) return Note(std::string(reason.status().message()));
    if (!reason->empty()) Note("reason: " + *reason);
  }

  void Note(const std::string& text) {
    if (log_ != nullptr) log_->Info("{}", text);
  }

  void OnStarted(size_t role, int64_t /*age_ms*/) override {
    running_.insert(role);
    const auto& [name, log_bytes] = starts_[role];
    memory_.OnStarted(static_cast<int64_t>(role), name, log_bytes, MonotonicMillis());
    NodeEvent event;
    event.mutable_started()->set_role(static_cast<int64_t>(role));
    launcher_.Send(event);
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
    if (replica != nullptr) record_.OnReplica(*replica);
    NodeEvent event;
    event.mutable_status()->set_line(master::EncodeStatusLine(*line));
    launcher_.Send(event);
  }
  void OnMachineUsed(size_t /*machine*/, double share) override {
    if (trains_) idle_->OnUse(0, share, MonotonicMillis());
    NodeEvent event;
    event.mutable_used()->set_share(share);
    launcher_.Send(event);
  }
  bool WantsActivity(size_t role) const override {
    const auto told = activity_ms_.find(role);
    return launcher_.is_there() &&
           (told == activity_ms_.end() || MonotonicMillis() - told->second >= kActivityPauseMs);
  }
  void OnActivity(size_t role, const ProcessActivity& activity) override {
    activity_ms_[role] = MonotonicMillis();
    NodeEvent event;
    event.mutable_activity()->set_role(static_cast<int64_t>(role));
    event.mutable_activity()->set_cpu_ticks(activity.cpu_ticks);
    event.mutable_activity()->set_asleep(activity.asleep);
    launcher_.Send(event);
  }
  void OnExit(size_t role, pid_t pid, const ExitStatus& status) override {
    running_.erase(role);
    // Others want the host.
    if (running_.empty() && with_host_) {
      until_ms_ = std::min(until_ms_, MonotonicMillis() + options_.fetch_ms);
    }
    const std::string& name = starts_[role].first;
    Note(fmt::format("{} {}", name, DescribeExit(status)));
    const bool spared = record_.OnExit(name, status);
    memory_.OnExit(static_cast<int64_t>(role), pid, status);
    if (!spared) unattended_->OnEnd(MonotonicMillis());
    logs_.SendRest(static_cast<int64_t>(role), sender_);
    NodeEvent event;
    event.mutable_exited()->set_role(static_cast<int64_t>(role));
    event.mutable_exited()->set_pid(pid);
    event.mutable_exited()->set_code(status.code);
    event.mutable_exited()->set_signal(status.signal);
    launcher_.Send(event);
  }
  void OnError(const std::string& text) override {
    NodeEvent event;
    event.mutable_error()->set_text(text);
    launcher_.Send(event);
  }

  const NodeOptions& options_;
  LocalProcesses& processes_;
  const bool with_host_;
  LauncherConnection launcher_;
  const std::function<void(const NodeEvent&)> sender_ = [this](const NodeEvent& event) {
    launcher_.Send(event);
  };
  Signals signals_;
  const int64_t born_ms_ = MonotonicMillis();

  std::string directory_;  // of the job
  int64_t max_running_ms_ = 0;
  std::unique_ptr<JobLock> lock_;
  std::unique_ptr<Log> log_;              // may be null
  std::optional<Unattended> unattended_;  // once a job is open
  std::optional<NodeFiles> files_;        // the same
  bool ends_with_login_ = false;
  NoticeWatch notices_;
  bool takes_back_ = false;    // a cloud may end this machine
  bool machine_ends_ = false;  // and does
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
  EndRecord record_;
  bool ended_ = false;     // WriteEnd has done its work
  bool followed_ = false;  // by a launcher that came while it ran
  bool end_ = false;       // the launcher has said so
};

}  // namespace

void RunKeeper(const NodeOptions& options, LocalProcesses& processes, int listener,
               bool with_host) {
  Keeper(options, processes, listener, with_host).Run();
}

}  // namespace muster::cluster
