#include "cluster/job_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>
#include <utility>

#include "cluster/display.h"
#include "cluster/local_record.h"
#include "cluster/random_hex.h"
#include "cluster/signals.h"
#include "master/job_directory.h"
#include "rpc/role_environment.h"
#include "telemetry/time.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::RunState;

constexpr int kTailLines = 10;
constexpr int64_t kFrameMs = 200;
// What happens on several hosts is heard of in another order.
constexpr int64_t kSettleElsewhereMs = 2000;
constexpr size_t kTokenBytes = 16;
// Between two starts of a worker that has lost its link to the master.
constexpr int64_t kStartAgainMs = 300'000;
// How long a job that was left keeps its results after its running time, where they go with its
// machines: less than provider's own deadline leaves.
constexpr int64_t kKeepMs = 900'000;

// `elsewhere`: roles are on other hosts.
FollowerOptions MakeFollowerOptions(const LocalJob& job, bool elsewhere, size_t machines) {
  FollowerOptions options;
  options.job_id = job.job_id;
  for (const LocalRole& role : job.roles) {
    options.roles.push_back({role.role, role.index, role.sized_by});
  }
  options.start_timeout_ms = job.start_timeout_ms;
  options.max_running_ms = job.max_running_ms;
  options.rent = job.rent;
  options.idle = job.idle;
  options.machines = machines;
  if (elsewhere) options.settle_ms = kSettleElsewhereMs;
  return options;
}

class JobRun : RoleProcesses::Listener {
 public:
  JobRun(const LocalJob& job, const LocalOptions& options, const std::vector<RolePlace>& places,
         RoleProcesses& processes, const JobRunMode& mode)
      : job_(job),
        options_(options),
        places_(places),
        processes_(processes),
        mode_(mode),
        dir_(job.job_dir),
        token_(mode.token.empty() ? MakeRunToken() : mode.token),
        screen_(options.out_fd, options.term.empty() ? nullptr : options.term.c_str()),
        follower_(MakeFollowerOptions(job, !places.empty(), processes.machines()),
                  MonotonicMillis()),
        log_starts_(job.roles.size()) {}

  int Run() {
    if (mode_.attached) {
      others_started_ = true;
    } else {
      Start(0);
    }
    while (!begun_ || !follower_.done()) {
      if (!others_started_ && !follower_.master_address().empty()) StartOthers();
      Wait();
      follower_.OnTick(MonotonicMillis());
      if (mode_.cancel && !cancelled_ && !follower_.master_address().empty()) {
        cancelled_ = true;
        follower_.OnInterrupt(MonotonicMillis());
      }
      Act();
      Show();
      if (mode_.leave && Trains()) leaving_ = true;
      if (!lost_.empty() || (std::exchange(leaving_, false) && Leave())) return Left();
    }
    return Finish();
  }

 private:
  RolePlace Place(size_t role) const {
    if (!places_.empty()) return places_[role];
    return {.job_dir = job_.job_dir, .data_folder = options_.data_folder};
  }

  void Start(size_t i) {
    const LocalRole& role = job_.roles[i];
    const RolePlace place = Place(i);
    RoleCommand command;
    command.name = fmt::format("{}-{}", role.role, role.index);
    command.program = role.program;
    command.is_master = i == 0;
    std::vector<std::string>& arguments = command.arguments;
    if (i > 0) {
      arguments.push_back(fmt::format("--master={}", follower_.master_address()));
      arguments.push_back(fmt::format("--role={}", role.role));
      arguments.push_back(fmt::format("--index={}", role.index));
    }
    arguments.push_back(fmt::format("--job-dir={}", place.job_dir));
    arguments.push_back(fmt::format("--threads={}", role.threads));
    if (!place.listen_address.empty()) {
      arguments.push_back(fmt::format("--host={}", place.listen_address));
    }
    if (role.first_core >= 0) arguments.push_back(fmt::format("--first-core={}", role.first_core));
    if (role.gpus) {
      arguments.push_back(fmt::format("--gpus={}", role.gpus->wanted));
      arguments.push_back(fmt::format("--trainer={}", role.gpus->process));
      arguments.push_back(fmt::format("--trainers={}", role.gpus->processes));
    }
    arguments.insert(arguments.end(), role.arguments.begin(), role.arguments.end());
    if (i > 0 && !job_.shared_memory) arguments.emplace_back("--shared-memory=false");
    command.environment = Environment(role);
    if (!place.data_folder.empty())
      command.environment.emplace_back(worker::kDataVariable, place.data_folder);
    if (!place.identity.empty())
      command.environment.emplace_back("MUSTER_IDENTITY", place.identity);
    command.log_path = JobDirectory(place.job_dir).log(role.role, role.index);
    std::error_code error;
    const auto size = std::filesystem::file_size(LogPath(i), error);
    log_starts_[i] = error ? 0 : static_cast<off_t>(size);
    command.log_bytes = log_starts_[i];
    processes_.Start(i, command);
  }

  void StartOthers() {
    others_started_ = true;
    for (size_t i = 1; i < job_.roles.size(); ++i) Start(i);
  }

  std::vector<std::pair<std::string, std::string>> Environment(const LocalRole& role) const {
    TfCluster tf = job_.tf;
    tf.master_address = follower_.master_address();
    std::vector<std::pair<std::string, std::string>> environment = {
        {"MUSTER_JOB_TOKEN", token_},
        {"TF_CONFIG", TfConfig(tf, role.role, role.index)},
        {"OMP_NUM_THREADS", fmt::format("{}", role.threads)},
        // Idle threads that spin take the cores from the other roles.
        {"OMP_WAIT_POLICY", "passive"},
        {"GOMP_SPINCOUNT", "0"},
        // Sums of gradients in the order of the GPUs' ring; a switch that adds promises none.
        {"NCCL_ALGO", "Ring"},
    };
    environment.insert(environment.end(), rpc::kRoleEnvironment.begin(),
                       rpc::kRoleEnvironment.end());
    return environment;
  }

  // Of role `i`, on this machine.
  std::string LogPath(size_t i) const { return dir_.log(job_.roles[i].role, job_.roles[i].index); }

  // Sleeps until something happens, then tells the follower what.
  void Wait() {
    std::vector<pollfd> fds = {{signals_.fd(), POLLIN, 0},
                               {asking_ ? options_.in_fd : -1, POLLIN, 0}};
    processes_.Watch(&fds);
    const int64_t now = MonotonicMillis();
    int64_t wake = std::min(follower_.NextDeadline(), now + 1000);
    if (screen_.live()) wake = std::min(wake, now + kFrameMs);
    poll(fds.data(), fds.size(), static_cast<int>(std::max<int64_t>(0, wake - now)));
    while (const int signal = signals_.Take()) {
      if (signal == SIGINT && !asking_ && MayAsk()) {
        Ask();
      } else {
        asking_ = false;
        follower_.OnInterrupt(MonotonicMillis());
      }
    }
    if (asking_ && fds[1].revents != 0) TakeAnswer();
    processes_.Collect(*this);
  }

  bool Trains() const {
    const DisplayState state = follower_.Display(MonotonicMillis());
    return state.state == RunState::kRunning && state.ready_roles == state.roles;
  }

  // Whether Ctrl-C leaves a choice, and somebody is there to make it.
  bool MayAsk() const {
    const RunState state = follower_.Display(MonotonicMillis()).state;
    return screen_.live() && isatty(options_.in_fd) != 0 && processes_.CanDetach().ok() &&
           state != RunState::kCancelling && !master::IsFinal(state) && others_started_;
  }

  void Ask() {
    asking_ = true;
    screen_.Print(
        fmt::format("d: detach ({})   s: stop   anything else: go on   (then Enter; Ctrl-C again "
                    "stops)",
                    GoesOnText()));
  }

  void TakeAnswer() {
    char line[256];
    const ssize_t n = read(options_.in_fd, line, sizeof(line));
    asking_ = false;
    if (n > 0 && line[0] == 'd') {
      leaving_ = true;
    } else if (n > 0 && line[0] == 's') {
      follower_.OnInterrupt(MonotonicMillis());
    } else {
      screen_.Print("going on");
    }
  }

  // "the job goes on, $3.10/h, ends by 2026-… at the latest"
  std::string GoesOnText() const {
    const int64_t now = MonotonicMillis(), end = follower_.EndsBy(now);
    std::string text = "the job goes on";
    if (job_.rent != nullptr && job_.rent->bill.PerHour() > 0) {
      text += fmt::format(", ${:.2f}/h", job_.rent->bill.PerHour());
    }
    if (end > 0) {
      text += fmt::format(", ends by {} at the latest", FormatTime(UnixMillis() + end - now));
    }
    if (job_.rent != nullptr) {
      const int64_t until = UnixMillis() + Terms(now).until_in_ms;
      text += fmt::format("; what it has learned by then is kept on its master's machine until {}",
                          FormatTime(until));
    }
    return text;
  }

  LeaveTerms Terms(int64_t now) const {
    LeaveTerms terms;
    if (job_.rent == nullptr) return terms;
    const int64_t end = follower_.EndsBy(now), stop = job_.rent->StopBy(now);
    terms.until_in_ms = std::max(now, end) + kKeepMs - now;
    if (stop < Bill::kNever) {
      terms.stop_in_ms = std::max<int64_t>(1, stop - now);
      terms.stop_reason = BudgetIsUsedUp(job_.rent->max_cost);
      terms.until_in_ms = std::min(terms.until_in_ms, terms.stop_in_ms + Rent::kTeardownMs);
    }
    return terms;
  }

  // False when the job cannot be left alone.
  bool Leave() {
    const absl::Status left = processes_.Detach(Terms(MonotonicMillis()));
    Warn(left);
    return left.ok();
  }

  int Left() {
    NoteStays(job_, options_);
    if (mode_.on_left) mode_.on_left();
    screen_.Clear();
    if (!lost_.empty()) WriteError(fmt::format("error: {}\n", lost_));
    screen_.Print(fmt::format("{}\n{:<20} launch attach {}\n{:<20} launch jobs cancel {}",
                              GoesOnText(), "to follow it", job_.job_id, "to end it", job_.job_id));
    return lost_.empty() ? 0 : 1;
  }

  void OnStarted(size_t role, int64_t age_ms) override {
    begun_ = true;
    follower_.OnStarted(role, MonotonicMillis() - age_ms);
  }

  void OnStatusLine(const absl::StatusOr<master::StatusLine>& line, int64_t age_ms) override {
    if (!line.ok()) return follower_.OnBadLine(line.status());
    follower_.OnLine(*line, MonotonicMillis() - age_ms);
    // Plain lines tell every state, also those that several lines at once pass through, and what
    // was said in between.
    if (!screen_.live()) {
      PrintMessages();
      Show();
    }
  }

  bool WantsActivity(size_t role) const override { return !follower_.registered(role); }

  void OnActivity(size_t role, const ProcessActivity& activity) override {
    follower_.OnActivity(role, activity, MonotonicMillis());
  }

  void OnMachineUsed(size_t machine, double share) override {
    follower_.OnMachineUsed(machine, share, MonotonicMillis());
  }

  void OnExit(size_t role, pid_t pid, const ExitStatus& status) override {
    const bool cut_off = follower_.IsCutOff(role, status);
    follower_.OnExit(role, status, MonotonicMillis());
    ends_.push_back({job_.roles[role].role, job_.roles[role].index, pid, status});
    if (!cut_off || !MayStartAgain()) return;
    // One that loses it again and again has a fault of its own.
    const int64_t now = MonotonicMillis();
    const auto [last, first] = started_again_ms_.try_emplace(role, now);
    if (!first && now - std::exchange(last->second, now) < kStartAgainMs) return;
    StartAgain(role);
  }

  void OnError(const std::string& text) override {
    begun_ = true;
    follower_.OnError(text, MonotonicMillis());
  }

  std::string Name(size_t role) const {
    return fmt::format("{}-{}", job_.roles[role].role, job_.roles[role].index);
  }

  void OnMachineEnds(size_t role, int64_t ends_ms) override {
    screen_.Print(
        fmt::format("{}: its machine is taken back at {}: it leaves the job, another "
                    "machine is asked for",
                    Name(role), FormatTime(ends_ms)));
  }

  void OnAway(size_t role, const std::string& why) override {
    follower_.OnAway(role);
    screen_.Print(fmt::format("{} is away{}{}", Name(role), why.empty() ? "" : ": ", why));
  }

  bool CanDoWithout(size_t role) const override { return follower_.CanDoWithout(role); }

  void OnHostBack(size_t role, const std::string& job_dir, const std::string& address) override {
    places_[role].job_dir = job_dir;
    places_[role].listen_address = address;
    if (MayStartAgain()) StartAgain(role);
  }

  bool MayStartAgain() const {
    // One that has attached may not have what a role needs to be taken for one.
    return follower_.goes_on() && !(mode_.attached && mode_.token.empty());
  }

  void StartAgain(size_t role) {
    PrintMessages();
    screen_.Print(fmt::format("{} is started again", Name(role)));
    std::erase_if(ends_, [&](const RoleEnd& end) {
      return end.role == job_.roles[role].role && end.index == job_.roles[role].index;
    });
    Start(role);
  }

  void OnMessage(const std::string& text) override { screen_.Print(text); }

  void OnHostLost(const std::string& text, bool goes_on) override {
    if (goes_on) {
      lost_ = text;
    } else {
      OnError(text);
    }
  }

  void Act() {
    const std::vector<Follower::Action> actions = follower_.TakeActions();
    PrintMessages();
    if (!actions.empty()) TellFailure();
    for (const Follower::Action action : actions) {
      if (action == Follower::Action::kInterruptMaster) {
        processes_.Signal(0, SIGINT);
        continue;
      }
      for (size_t i = 0; i < job_.roles.size(); ++i) {
        // SIGTERM would ask workers to leave.
        if (action == Follower::Action::kTerminateAll) processes_.Signal(i, SIGINT);
        if (action == Follower::Action::kKillAll) processes_.Kill(i);
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
    if (failure.role.has_value()) {
      const std::string path = LogPath(*failure.role);
      const auto lines = LastLines(path, log_starts_[*failure.role], kTailLines);
      text += lines.empty() ? fmt::format("{} is empty\n", path)
                            : fmt::format("the last lines of {}:\n", path);
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
    PrintMessages();
    Show();
    screen_.Clear();
    Warn(processes_.Gather());
    TellFailure();
    Warn(WriteLastRecord(job_, dir_, follower_, ends_, UnixMillis()));
    if (follower_.outcome() != RunState::kFailed) {
      screen_.Print(Summary(dir_, follower_, MonotonicMillis()));
    }
    return follower_.exit_code();
  }

  void Warn(const absl::Status& status) {
    if (!status.ok()) WriteError(fmt::format("warning: {}\n", std::string(status.message())));
  }

  void WriteError(const std::string& text) {
    if (write(options_.err_fd, text.data(), text.size()) < 0) return;
  }

  const LocalJob& job_;
  const LocalOptions& options_;
  std::vector<RolePlace> places_;
  RoleProcesses& processes_;
  const JobRunMode mode_;
  const JobDirectory dir_;
  const std::string token_;
  Signals signals_;
  Screen screen_;
  Follower follower_;
  std::vector<off_t> log_starts_;  // by role: what it says begins there
  std::vector<RoleEnd> ends_;
  std::map<size_t, int64_t> started_again_ms_;  // roles that were cut off
  bool begun_ = false;                          // the master was started, or could not be
  bool others_started_ = false;
  bool told_failure_ = false;
  bool asking_ = false;   // what Ctrl-C meant
  bool leaving_ = false;  // the job is to go on alone
  bool cancelled_ = false;
  std::string lost_;  // not empty: why the job cannot be followed any more, and goes on
  DisplayState shown_;
  int64_t shown_ms_ = 0;
};

}  // namespace

std::string MakeRunToken() { return RandomHex(kTokenBytes); }

int RunJobRoles(const LocalJob& job, const LocalOptions& options,
                const std::vector<RolePlace>& places, RoleProcesses& processes,
                const JobRunMode& mode) {
  return JobRun(job, options, places, processes, mode).Run();
}

}  // namespace muster::cluster
