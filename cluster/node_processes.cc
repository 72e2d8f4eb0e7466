#include "cluster/node_processes.h"

#include <absl/strings/str_replace.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "master/job_files.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPingMs = 1000;

}  // namespace

absl::Status NodeProcesses::Await(const std::function<bool()>& done, int64_t timeout_ms,
                                  const char* what) {
  int64_t deadline = MonotonicMillis() + timeout_ms;
  size_t parts = files_.parts();
  while (!done()) {
    std::vector<pollfd> fds;
    bool sending = false;
    for (const auto& host : hosts_) {
      host->Watch(&fds);
      sending |= host->sending();
    }
    // While programs and files travel there is no hurry.
    if (sending || std::exchange(parts, files_.parts()) != files_.parts()) {
      deadline = std::max(deadline, MonotonicMillis() + timeout_ms / 2);
    }
    const int64_t left = deadline - MonotonicMillis();
    if (left <= 0) return absl::DeadlineExceededError(what);
    poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left, 200)));
    RETURN_IF_ERROR(KeepAlive());
  }
  return absl::OkStatus();
}

absl::Status NodeProcesses::KeepAlive() {
  for (size_t i = 0; i < hosts_.size(); ++i) {
    hosts_[i]->Pump([this, i](const NodeEvent& event) { OnEvent(i, event); });
    if (presence_[i] == Presence::kHere) RETURN_IF_ERROR(hosts_[i]->status());
  }
  if (!errors_.empty()) return absl::FailedPreconditionError(errors_.front());
  PingAll();
  return absl::OkStatus();
}

std::set<size_t> NodeProcesses::Missing() const {
  std::set<size_t> missing;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (!hosts_[i]->status().ok()) missing.insert(i);
  }
  return missing;
}

NodeProcesses::~NodeProcesses() {
  if (!owns_) return;
  NodeRequest request;
  request.mutable_end();
  for (const auto& host : hosts_) host->Send(request);
}

absl::Status NodeProcesses::CheckFit(size_t host) const {
  const NodeHello& hello = *hosts_[host]->hello();
  if (hello.build_id() != options_.build_id) {
    return absl::FailedPreconditionError(fmt::format(
        "host {}: its programs are of build {}, this launch is of {}: run ./dev bundle, or bring "
        "the folder in cluster.ssh.programs up to date",
        hosts_[host]->name(), hello.build_id(), options_.build_id));
  }
  const int64_t skew = std::abs(hello.clock_ms() - UnixMillis());
  if (skew <= options_.max_clock_skew_ms) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("host {}: its clock is {} s off: set it (timedatectl set-ntp true)",
                  hosts_[host]->name(), skew / 1000));
}

void NodeProcesses::SendOpen(size_t host, bool attach, const std::string& notices_of) {
  NodeRequest request;
  OpenJob& open = *request.mutable_open();
  open.set_directory(options_.job_folder);
  open.set_lock(host == 0);
  open.set_host(static_cast<int>(host));
  open.set_attach(attach);
  open.set_stay(options_.stay);
  open.set_max_running_ms(options_.max_running_ms);
  open.set_launcher(options_.launcher);
  open.set_here(options_.here);
  open.set_rented(options_.rented);
  open.set_kept(options_.kept);
  open.set_busy_below(options_.idle.busy_below);
  open.set_idle_ms(options_.idle.for_ms);
  open.set_notices_of(notices_of);
  hosts_[host]->Send(request);
}

absl::Status NodeProcesses::Connect(bool attach) {
  owns_ = !attach;
  opened_.resize(hosts_.size());
  std::vector<bool> asked(hosts_.size());
  std::vector<std::string> problems(hosts_.size());
  const auto settled = [&](size_t i) {
    return !opened_[i].empty() || !hosts_[i]->status().ok() || !problems[i].empty();
  };
  const auto done = [&] {
    bool all = true;
    for (size_t i = 0; i < hosts_.size(); ++i) {
      NodeLink& host = *hosts_[i];
      if (host.hello() && !asked[i]) {
        asked[i] = true;
        problems[i] = std::string(CheckFit(i).message());
        if (problems[i].empty()) {
          SendOpen(i, attach, i < options_.notices_of.size() ? options_.notices_of[i] : "");
        }
      }
      all = all && settled(i);
    }
    return all;
  };
  // Every host gets its say, so that the user sees all problems at once.
  const int64_t begun = MonotonicMillis();
  int64_t deadline = begun + options_.connect_ms;
  while (!done() && MonotonicMillis() < deadline) {
    std::vector<pollfd> fds;
    for (size_t i = 0; i < hosts_.size(); ++i) {
      hosts_[i]->Watch(&fds);
      if (hosts_[i]->sending())
        deadline = std::max(deadline, MonotonicMillis() + options_.connect_ms);
    }
    poll(fds.data(), fds.size(), 100);
    for (size_t i = 0; i < hosts_.size(); ++i) {
      hosts_[i]->Pump([&, i](const NodeEvent& event) {
        if (event.has_error()) {
          problems[i] = fmt::format("host {}: {}", hosts_[i]->name(), event.error().text());
          return;
        }
        OnEvent(i, event);
        if (!event.has_opened() || !event.opened().runs()) return;
        runs_on_.insert(i);
        if (event.opened().build_id() == options_.build_id) return;
        problems[i] = fmt::format(
            "host {}: the job there was started by build {}, and this is {}: attach "
            "with the former",
            hosts_[i]->name(), event.opened().build_id(), options_.build_id);
      });
    }
    PingAll();
  }
  std::string text;
  bool lacks_workers_alone = true;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    std::string problem = problems[i];
    if (problem.empty() && !hosts_[i]->status().ok())
      problem = std::string(hosts_[i]->status().message());
    if (problem.empty() && opened_[i].empty()) {
      problem = fmt::format("host {}: nothing was heard of it within {} s", hosts_[i]->name(),
                            options_.connect_ms / 1000);
    }
    const bool unreached = problems[i].empty() && opened_[i].empty();
    if (unreached && (IsMissing(i) || options_.without_workers) && HasWorkersAlone(i)) {
      presence_[i] = Presence::kAway;
      continue;
    }
    if (problem.empty()) continue;
    lacks_workers_alone &= unreached && HasWorkersAlone(i);
    text += (text.empty() ? "" : "\n") + problem;
  }
  if (text.empty()) return absl::OkStatus();
  lacks_workers_alone_ = lacks_workers_alone;
  return absl::FailedPreconditionError(text);
}

absl::Status NodeProcesses::Attach() {
  RETURN_IF_ERROR(Connect(/*attach=*/true));
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (runs_on_.contains(i)) continue;
    const bool may_be = IsMissing(i) || options_.without_workers;
    if (!may_be || !runs_master() || !HasWorkersAlone(i)) return absl::OkStatus();
  }
  follows_ = true;
  RETURN_IF_ERROR(FollowLogs());
  owns_ = stay_ = true;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (runs_on_.contains(i) || !Replaces(i)) continue;
    presence_[i] = Presence::kAway;
    options_.steward->Replace(i, /*ends=*/false);
  }
  return absl::OkStatus();
}

bool NodeProcesses::CanDoWithout(size_t host, const Listener& listener) const {
  if (!HasWorkersAlone(host)) return false;
  return std::ranges::all_of(running_, [&](size_t role) {
    return options_.host_of_role[role] != host || listener.CanDoWithout(role);
  });
}

bool NodeProcesses::HasWorkersAlone(size_t host) const {
  for (size_t role = 0; role < options_.host_of_role.size(); ++role) {
    const bool here = options_.host_of_role[role] == host;
    if (here && !options_.role_names[role].starts_with("worker-")) return false;
  }
  return true;
}

absl::Status NodeProcesses::FollowLogs() {
  for (const auto& [host, event] : events_) {
    if (!event.has_started()) continue;
    const RoleStarted& started = event.started();
    const auto role = static_cast<size_t>(started.role());
    if (role >= options_.role_names.size() || options_.role_names[role] != started.name() ||
        options_.host_of_role[role] != host) {
      return absl::FailedPreconditionError(
          fmt::format("{}/job.yaml does not describe the job that runs on {}, whose role {} is "
                      "{}: it was edited, or is another job's",
                      options_.job_dir, hosts_[host]->name(), started.role(), started.name()));
    }
    if (options_.here) continue;
    std::error_code error;
    const auto size = fs::file_size(options_.log_paths[role], error);
    const int64_t here = error ? 0 : static_cast<int64_t>(size);
    NodeRequest request;
    FollowLog& follow = *request.mutable_follow();
    follow.set_role(started.role());
    // A log that is shorter than it was is another machine's.
    const bool same = here >= started.log_bytes();
    follow.set_received(same ? here - started.log_bytes() : 0);
    follow.set_log_bytes(same ? started.log_bytes() : here);
    hosts_[host]->Send(request);
  }
  return absl::OkStatus();
}

absl::Status NodeProcesses::CanDetach() const {
  RETURN_IF_ERROR(options_.can_detach);
  if (!ends_with_login_.empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "host {} ends what a user has begun when the user logs out (KillUserProcesses of its "
        "logind): run `loginctl enable-linger` there before the job",
        ends_with_login_));
  }
  const bool asking = options_.steward != nullptr && options_.steward->IsAsking();
  if (!asking && std::ranges::count(presence_, Presence::kComing) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError("a machine is being replaced: try again in a moment");
}

absl::Status NodeProcesses::Detach(const LeaveTerms& terms) {
  RETURN_IF_ERROR(CanDetach());
  if (options_.before_leaving) RETURN_IF_ERROR(options_.before_leaving(terms.until_in_ms));
  NodeRequest request;
  LeaveJob& leave = *request.mutable_leave();
  leave.set_stop_in_ms(terms.stop_in_ms);
  leave.set_stop_reason(terms.stop_reason);
  leave.set_until_in_ms(terms.until_in_ms);
  left_ = 0;
  const auto here = std::ranges::count(presence_, Presence::kHere);
  for (const auto& host : hosts_) host->Send(request);
  RETURN_IF_ERROR(Await([&] { return std::cmp_equal(left_, here); }, options_.connect_ms,
                        "not every host has agreed to go on alone"));
  owns_ = false;
  return absl::OkStatus();
}

void NodeProcesses::PingAll() {
  if (MonotonicMillis() - pinged_ms_ < kPingMs) return;
  pinged_ms_ = MonotonicMillis();
  NodeRequest request;
  request.mutable_ping();
  for (const auto& host : hosts_) {
    if (host->hello()) host->Send(request);
  }
}

absl::Status NodeProcesses::Pull() { return options_.here ? absl::OkStatus() : files_.Pull(); }

absl::Status NodeProcesses::PullLogs() {
  std::vector<HostFiles::Log> logs;
  for (size_t role = 0; role < options_.role_names.size(); ++role) {
    const size_t host = options_.host_of_role[role];
    if (host >= hosts_.size() || presence_[host] != Presence::kHere) continue;
    logs.push_back({host, options_.role_names[role], options_.log_paths[role]});
  }
  return files_.PullLogs(logs);
}

absl::Status NodeProcesses::Push() { return options_.here ? absl::OkStatus() : files_.Push(); }

absl::Status NodeProcesses::Gather() {
  if (options_.here) return absl::OkStatus();
  if (!hosts_[0]->status().ok()) {
    return absl::UnavailableError(fmt::format("what the job has written lies in {} on {}: {}",
                                              opened_[0], hosts_[0]->name(),
                                              std::string(hosts_[0]->status().message())));
  }
  errors_.clear();
  return files_.Gather();
}

void NodeProcesses::Start(size_t role, const RoleCommand& command) {
  NodeRequest request;
  StartRole& start = *request.mutable_start();
  start.set_role(static_cast<int64_t>(role));
  start.set_name(command.name);
  start.set_program(command.program);
  *start.mutable_arguments() = {command.arguments.begin(), command.arguments.end()};
  for (const auto& [name, value] : command.environment)
    (*start.mutable_environment())[name] = value;
  start.set_log_path(command.log_path);
  start.set_is_master(command.is_master);
  start.set_log_bytes(options_.here ? -1 : command.log_bytes);
  hosts_[options_.host_of_role[role]]->Send(request);
}

void NodeProcesses::Signal(size_t role, int signal) {
  NodeRequest request;
  request.mutable_signal()->set_role(static_cast<int64_t>(role));
  request.mutable_signal()->set_signal(signal);
  hosts_[options_.host_of_role[role]]->Send(request);
}

void NodeProcesses::Kill(size_t role) { Signal(role, SIGKILL); }

void NodeProcesses::Watch(std::vector<pollfd>* fds) const {
  for (const auto& host : hosts_) host->Watch(fds);
  if (options_.steward != nullptr) options_.steward->Watch(fds);
}

void NodeProcesses::OnEvent(size_t host, const NodeEvent& event) {
  switch (event.kind_case()) {
    case NodeEvent::kHello:
      return;
    case NodeEvent::kOpened:
      opened_[host] = event.opened().directory();
      if (event.opened().ends_with_login()) ends_with_login_ = hosts_[host]->name();
      return;
    case NodeEvent::kLog:
      return AppendLog(event.log());
    case NodeEvent::kFiles:
      return files_.OnFiles(host, event.files());
    case NodeEvent::kPart:
      return files_.OnPart(host, event.part());
    case NodeEvent::kLeft:
      ++left_;
      return;
    case NodeEvent::kWritten:
      return files_.OnWritten(host);
    case NodeEvent::kError:
      if (presence_[host] != Presence::kHere) {
        coming_.erase(host);  // refused
        return;
      }
      errors_.push_back(fmt::format("host {}: {}", hosts_[host]->name(), event.error().text()));
      return;
    default:
      events_.emplace_back(host, event);
  }
}

void NodeProcesses::AppendLog(const LogPart& part) {
  const auto role = static_cast<size_t>(part.role());
  if (role >= options_.log_paths.size()) return;
  const int fd =
      open(options_.log_paths[role].c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return;
  (void)WriteAll(fd, part.text(), options_.log_paths[role]).ok();
  close(fd);
}

void NodeProcesses::HearSteward(Listener& listener) {
  if (options_.steward == nullptr) return;
  options_.steward->Tick();
  for (const std::string& line : options_.steward->TakeMessages()) listener.OnMessage(line);
  for (auto& [host, way] : options_.steward->TakeFound()) TakeIn(host, std::move(way), listener);
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (presence_[i] == Presence::kComing) LookAtComing(i, listener);
  }
}

void NodeProcesses::TakeIn(size_t host, RunHost way, Listener& listener) {
  if (presence_[host] == Presence::kComing) return;
  // One that is taken back may still be there.
  if (presence_[host] == Presence::kHere) GoAway(host, "its machine is taken back", listener);
  auto link = NodeLink::Start(way.link, options_.bundle);
  if (!link.ok()) return options_.steward->Replace(host, /*ends=*/false);
  hosts_[host] = *std::move(link);
  opened_[host].clear();
  ending_.erase(host);
  lost_.erase(host);
  presence_[host] = Presence::kComing;
  coming_.erase(host);
  coming_.emplace(host, ComingHost(std::move(way), options_.connect_ms));
}

void NodeProcesses::LookAtComing(size_t host, Listener& listener) {
  const auto it = coming_.find(host);
  absl::StatusOr<bool> here = absl::UnavailableError("");  // it has refused
  if (it != coming_.end()) {
    here = it->second.Look(*hosts_[host], !opened_[host].empty(),
                           {.connect_ms = options_.connect_ms,
                            .open =
                                [&](const RunHost& way) {
                                  RETURN_IF_ERROR(CheckFit(host));
                                  SendOpen(host, /*attach=*/false, way.notices_of);
                                  return absl::OkStatus();
                                },
                            .send_data = send_data_,
                            .say = [&](const std::string& line) { listener.OnMessage(line); }});
  }
  if (!here.ok()) {
    if (!here.status().message().empty()) {
      listener.OnMessage(std::string(here.status().message()));
    }
    GoAway(host, "", listener);
    return options_.steward->Replace(host, /*ends=*/false);
  }
  if (!*here) return;
  const auto address = AddressOf(it->second.way(), *hosts_[host]->hello());
  coming_.erase(it);
  presence_[host] = Presence::kHere;
  options_.steward->Reached(host);
  for (size_t role = 0; role < options_.host_of_role.size(); ++role) {
    if (options_.host_of_role[role] != host || !address.ok()) continue;
    listener.OnHostBack(role, opened_[host], *address);
  }
}

void NodeProcesses::RoleAway(size_t role, const std::string& why, Listener& listener) {
  if (running_.erase(role) > 0) listener.OnAway(role, why);
}

void NodeProcesses::GoAway(size_t host, const std::string& why, Listener& listener) {
  presence_[host] = Presence::kAway;
  coming_.erase(host);
  listener.OnMachineUsed(host, 0);
  for (const size_t role : std::set<size_t>(running_)) {
    if (options_.host_of_role[role] == host) RoleAway(role, why, listener);
  }
}

void NodeProcesses::Collect(Listener& listener) {
  for (size_t i = 0; i < hosts_.size(); ++i) {
    hosts_[i]->Pump([this, i](const NodeEvent& event) { OnEvent(i, event); });
  }
  PingAll();
  if (!options_.here && hosts_[0]->status().ok()) files_.Tick(MonotonicMillis());
  HearSteward(listener);
  const size_t roles = options_.host_of_role.size();
  for (const auto& [host, event] : std::exchange(events_, {})) {
    const auto mine = [&, host = host](int64_t role) {
      return role >= 0 && static_cast<size_t>(role) < roles &&
             options_.host_of_role[static_cast<size_t>(role)] == host;
    };
    if (event.has_started() && mine(event.started().role())) {
      running_.insert(static_cast<size_t>(event.started().role()));
      listener.OnStarted(static_cast<size_t>(event.started().role()), event.started().age_ms());
    } else if (event.has_status() && host == options_.host_of_role[0]) {
      // What it names lies on this machine once it is gathered.
      listener.OnStatusLine(master::DecodeStatusLine(absl::StrReplaceAll(
                                event.status().line(), {{opened_[0], options_.job_dir}})),
                            event.status().age_ms());
    } else if (event.has_activity() && mine(event.activity().role())) {
      const auto role = static_cast<size_t>(event.activity().role());
      if (!listener.WantsActivity(role)) continue;
      listener.OnActivity(role, {event.activity().cpu_ticks(), event.activity().asleep()});
    } else if (event.has_used()) {
      listener.OnMachineUsed(host, event.used().share());
    } else if (event.has_machine_ends()) {
      if (!ending_.insert(host).second) continue;
      for (const size_t role : running_) {
        if (options_.host_of_role[role] != host) continue;
        listener.OnMachineEnds(role, event.machine_ends().ends_ms());
      }
      if (Replaces(host)) options_.steward->Replace(host, /*ends=*/true);
    } else if (event.has_exited() && mine(event.exited().role())) {
      const auto role = static_cast<size_t>(event.exited().role());
      if (ending_.contains(host) && Replaces(host)) {
        RoleAway(role, "", listener);
        continue;
      }
      if (running_.erase(role) == 0) continue;
      listener.OnExit(role, static_cast<pid_t>(event.exited().pid()),
                      {event.exited().code(), event.exited().signal()});
    }
  }
  for (const std::string& error : std::exchange(errors_, {})) listener.OnError(error);
  TellOfLost(listener);
}

void NodeProcesses::TellOfLost(Listener& listener) {
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (hosts_[i]->status().ok() || presence_[i] != Presence::kHere) continue;
    const std::string why(hosts_[i]->status().message());
    if (Replaces(i)) {
      GoAway(i, why, listener);
      options_.steward->Replace(i, /*ends=*/false);
      continue;
    }
    if (CanDoWithout(i, listener)) {
      GoAway(i, why + "; the job goes on without it", listener);
      continue;
    }
    if (!lost_.insert(i).second) continue;
    // Without its master nobody can tell; any other host is missed by the job, too, and whoever has
    // a steward can run it again.
    const bool goes_on = stay_ && (i == 0 || options_.steward == nullptr);
    listener.OnHostLost(why, goes_on);
    if (options_.steward != nullptr) options_.steward->Missed(i);
    if (goes_on) {
      owns_ = false;
      continue;
    }
    // The node ends what it runs when it hears nothing any more.
    for (const size_t role : std::set<size_t>(running_)) {
      if (options_.host_of_role[role] != i) continue;
      running_.erase(role);
      listener.OnExit(role, 0, {.code = 1});
    }
  }
}

}  // namespace muster::cluster
