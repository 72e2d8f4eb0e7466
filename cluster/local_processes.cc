#include "cluster/local_processes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cluster/lifeline.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int kLockFd = 5;
// A limit is looked at so often in its time, and at most so many ms lie between.
constexpr int64_t kLooks = 10, kMaxLookMs = 10'000;

}  // namespace

absl::StatusOr<std::unique_ptr<LocalProcesses>> LocalProcesses::Make(
    std::string program_dir, std::vector<std::string> environment) {
  ASSIGN_OR_RETURN(std::unique_ptr<StatusPipe> status, StatusPipe::Open());
  int lifeline[2];
  if (pipe2(lifeline, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  return std::unique_ptr<LocalProcesses>(new LocalProcesses(
      std::move(program_dir), std::move(environment), std::move(status), lifeline[0], lifeline[1]));
}

LocalProcesses::LocalProcesses(std::string program_dir, std::vector<std::string> environment,
                               std::unique_ptr<StatusPipe> status, int lifeline_read,
                               int lifeline_write)
    : program_dir_(std::move(program_dir)),
      environment_(std::move(environment)),
      status_(std::move(status)),
      lifeline_read_(lifeline_read),
      lifeline_write_(lifeline_write) {}

LocalProcesses::~LocalProcesses() {
  close(lifeline_read_);
  close(lifeline_write_);
}

std::vector<std::string> LocalProcesses::Environment(const RoleCommand& command) const {
  std::vector<std::pair<std::string, std::string>> additions = command.environment;
  additions.emplace_back(kLifelineVariable, fmt::format("{}", kLifelineFd));
  std::vector<std::string> environment;
  for (const std::string& entry : environment_) {
    const bool replaced = std::any_of(
        additions.begin(), additions.end(),
        [&entry](const auto& addition) { return entry.starts_with(addition.first + "="); });
    if (!replaced) environment.push_back(entry);
  }
  for (const auto& [name, value] : additions) environment.push_back(name + "=" + value);
  return environment;
}

void LocalProcesses::Start(size_t role, const RoleCommand& command) {
  ProcessSpec spec;
  spec.name = command.name;
  spec.argv = {fmt::format("{}/{}", program_dir_, command.program)};
  spec.argv.insert(spec.argv.end(), command.arguments.begin(), command.arguments.end());
  spec.environment = Environment(command);
  spec.log_path = command.log_path;
  spec.fds = {{lifeline_read_, kLifelineFd}};
  if (command.is_master) {
    spec.fds.emplace_back(status_->write_fd(), master::kStatusFd);
    if (lock_fd_ >= 0) spec.fds.emplace_back(lock_fd_, kLockFd);
  }
  absl::StatusOr<std::unique_ptr<Process>> process = Process::Start(spec);
  if (command.is_master) status_->CloseWriteEnd();
  if (!process.ok()) {
    errors_.emplace_back(process.status().message());
    return;
  }
  processes_[role] = *std::move(process);
  started_.push_back(role);
}

void LocalProcesses::WatchUse(const IdleLimit& limit) {
  if (limit.for_ms <= 0) return;
  use_ = std::make_unique<MachineUse>(environment_, std::min(limit.for_ms / kLooks, kMaxLookMs));
}

void LocalProcesses::Signal(size_t role, int signal) {
  if (const auto it = processes_.find(role); it != processes_.end()) it->second->Signal(signal);
}

void LocalProcesses::Kill(size_t role) {
  if (const auto it = processes_.find(role); it != processes_.end()) it->second->Kill();
}

void LocalProcesses::Watch(std::vector<pollfd>* fds) const {
  fds->push_back({status_->read_fd(), POLLIN, 0});
  for (const auto& [role, process] : processes_) {
    if (process->running()) fds->push_back({process->pidfd(), POLLIN, 0});
  }
}

void LocalProcesses::Collect(Listener& listener) {
  for (const size_t role : std::exchange(started_, {})) listener.OnStarted(role, 0);
  for (const std::string& error : std::exchange(errors_, {})) listener.OnError(error);
  if (use_ != nullptr) {
    if (const auto share = use_->Look(MonotonicMillis())) listener.OnMachineUsed(0, *share);
  }
  const auto drain = [&] {
    status_->Drain([&listener](const absl::StatusOr<master::StatusLine>& line) {
      listener.OnStatusLine(line, 0);
    });
  };
  drain();
  std::vector<std::pair<size_t, ExitStatus>> exits;
  for (auto it = processes_.rbegin(); it != processes_.rend(); ++it) {
    const auto& [role, process] = *it;
    if (!process->running()) continue;
    if (const std::optional<ExitStatus> exit = process->Poll()) {
      exits.emplace_back(role, *exit);
    } else if (listener.WantsActivity(role)) {
      if (const auto activity = process->Activity()) listener.OnActivity(role, *activity);
    }
  }
  if (exits.empty()) return;
  drain();  // what the master said before these roles ended
  for (const auto& [role, exit] : exits) listener.OnExit(role, processes_[role]->pid(), exit);
}

}  // namespace muster::cluster
