#include "master/role_end.h"

#include <fmt/format.h>

#include <algorithm>

#include "master/trace_parts.h"

namespace muster::master {

Agent::Events Inbox::events() {
  const auto put = [this](const MasterMessage& command) {
    MutexLock lock(mu_);
    commands_.push_back(command);
    arrived_.NotifyAll();
  };
  const auto lose = [this](const absl::Status& status) {
    MutexLock lock(mu_);
    lost_ = absl::UnavailableError(
        fmt::format("the master is gone: {}",
                    status.ok() ? "it closed the link" : std::string(status.message())));
    arrived_.NotifyAll();
  };
  return {put, lose};
}

absl::StatusOr<MasterMessage> Inbox::Take() {
  MutexLock lock(mu_);
  while (commands_.empty() && lost_.ok()) arrived_.Wait(mu_);
  if (commands_.empty()) return lost_;
  MasterMessage command = std::move(commands_.front());
  commands_.pop_front();
  return command;
}

bool Inbox::CallsOff() const {
  MutexLock lock(mu_);
  return !lost_.ok() || std::ranges::any_of(commands_, [](const MasterMessage& command) {
    return command.has_pause() || command.has_stop();
  });
}

void TellingLog::Write(Level level, std::string_view text) {
  log_.Write(level, text);
  if (level != Level::kWarning) return;
  RoleMessage message;
  message.mutable_warning()->set_text(std::string(text));
  agent_.Send(message);
}

void SendFailure(Agent& agent, const absl::Status& status, bool stays) {
  RoleMessage message;
  message.mutable_failed()->set_stays(stays);
  message.mutable_failed()->set_code(static_cast<int>(status.code()));
  message.mutable_failed()->set_text(std::string(status.message()));
  agent.Send(message);
}

void EndRole(const RoleOptions& options, const absl::Status& status, Inbox& inbox, Agent& agent) {
  if (status.ok() || absl::IsCancelled(status)) return;
  options.log->Error("{}", std::string(status.message()));
  SendFailure(agent, status);
  for (;;) {
    const absl::StatusOr<MasterMessage> command = inbox.Take();
    if (!command.ok() || command->has_stop()) return;
  }
}

absl::Status StopStatus(const Stop& stop) {
  return stop.reason().empty() ? absl::OkStatus() : absl::CancelledError(stop.reason());
}

Register Registration(const RoleOptions& options, const std::string& params_address,
                      const std::string& device) {
  Register registration;
  registration.set_pid(options.pid);
  registration.set_host(options.host);
  registration.set_params_address(params_address);
  registration.set_device(device);
  if (options.metrics != nullptr) registration.set_metrics_address(options.metrics->address());
  return registration;
}

std::shared_ptr<void> ShowMetrics(const RoleOptions& options, MetricSource append) {
  return options.metrics == nullptr ? nullptr : options.metrics->Show(std::move(append));
}

void LeaveTrace(const Trace* trace, const RoleOptions& options, const std::string& folder,
                const RemoteFiles& files, Agent& agent) {
  if (trace == nullptr || trace->size() == 0) return;
  TellingLog log(*options.log, agent);
  if (trace->dropped() > 0) {
    log.Warning("the trace lacks {} events, for which there was no room", trace->dropped());
  }
  const std::string here = files.Here(folder);
  absl::Status written = WriteTracePart(*trace, options.self, here);
  if (written.ok()) written = files.Send(TracePartPath(options.self, here));
  if (!written.ok()) log.Warning("{}", std::string(written.message()));
}

}  // namespace muster::master
