// The role of a parameter server.
#include <fmt/format.h>

#include <utility>

#include "master/remote_files.h"
#include "master/role_end.h"
#include "master/trace_parts.h"
#include "ps/job_server.h"
#include "ps/param_message.h"
#include "ps/server_metrics.h"

namespace muster::master {
namespace {

// Serves streams once a server is there; refuses before. Owns the server: it must outlive the
// listener's streams.
class ServerSlot {
 public:
  // `trace`: the server's, or null.
  void Set(std::unique_ptr<ps::JobServer> parts, std::unique_ptr<Trace> trace) {
    MutexLock lock(mu_);
    trace_ = std::move(trace);
    parts_ = std::move(parts);
  }
  rpc::Acceptor acceptor() {
    return [this](const rpc::Hello& peer, std::shared_ptr<rpc::Stream> stream)
               -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
      rpc::Acceptor accept;
      {
        MutexLock lock(mu_);
        if (parts_ == nullptr) return absl::UnavailableError("the server is not set up yet");
        accept = parts_->server->acceptor();
      }
      return accept(peer, std::move(stream));
    };
  }

 private:
  Mutex mu_;
  std::unique_ptr<Trace> trace_ ABSL_GUARDED_BY(mu_);  // outlives the server
  std::unique_ptr<ps::JobServer> parts_ ABSL_GUARDED_BY(mu_);
};

// On this host.
std::string CutFolder(const ServerSetup& setup, const RemoteFiles& files, int64_t clock) {
  return files.Here(fmt::format("{}/step-{}", setup.checkpoint_dir(), clock));
}

// Answers the master's commands until it ends the role. Cuts are accepted before the reply goes
// out.
absl::Status ServeCommands(ps::Server& server, const ServerSetup& setup, const RemoteFiles& files,
                           Inbox& inbox, Agent& agent) {
  for (;;) {
    ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
    if (command.has_stop()) return StopStatus(command.stop());
    if (command.has_cut()) {
      const int64_t clock = command.cut().clock();
      server.CutAt(clock, CutFolder(setup, files, clock));
      RoleMessage reply;
      reply.mutable_cut_accepted()->set_clock(clock);
      agent.Send(reply);
    }
  }
}

absl::Status ServeParams(const RoleOptions& options, const ServerSetup& setup, ServerSlot& slot,
                         Inbox& inbox, Agent& agent) {
  const RemoteFiles files(options, setup.place());
  ps::ServerEvents events;
  // The server, and so a cut, may last longer than this call.
  events.on_cut = [files, &agent](int64_t clock, const std::string& file, absl::Status status) {
    if (status.ok()) status = files.Send(file);
    RoleMessage message;
    message.mutable_cut_done()->set_clock(clock);
    message.mutable_cut_done()->set_file(files.There(file));
    if (!status.ok()) message.mutable_cut_done()->set_error(std::string(status.message()));
    agent.Send(message);
  };
  events.on_bad_push = [&agent](const absl::Status& status) { SendFailure(agent, status); };

  ps::ServerOptions server_options;
  server_options.index = options.self.index;
  server_options.num_replicas = setup.num_replicas();
  server_options.first_core = options.first_core;
  server_options.residence = options.residence;
  server_options.allocate = [transport = options.transport](size_t size) {
    return transport->Allocate(size);
  };
  std::unique_ptr<Trace> own_trace =
      MakeTrace(setup.job().training(), options.self, options.pid, options.host);
  Trace* const trace = server_options.trace = own_trace.get();
  ASSIGN_OR_RETURN(ps::ParamTable table, ps::FromMessage(setup.params()));
  ASSIGN_OR_RETURN(
      auto parts, ps::JobServer::Make(std::move(table), setup.job().training(), setup.num_servers(),
                                      std::move(server_options), std::move(events), *options.log));
  ps::Server& server = *parts->server;
  if (setup.restore_files().empty()) {
    RETURN_IF_ERROR(server.Initialize());
  } else {
    std::vector<std::string> parts;
    for (const std::string& file : setup.restore_files()) {
      RETURN_IF_ERROR(files.Bring(file));
      parts.push_back(files.Here(file));
    }
    RETURN_IF_ERROR(server.Restore(parts, setup.start_clock()));
  }
  for (int64_t clock : setup.cuts()) {
    server.CutAt(clock, CutFolder(setup, files, clock));
  }
  slot.Set(std::move(parts), std::move(own_trace));
  const auto shown = ShowMetrics(
      options, [&server](std::vector<Metric>& out) { ps::ServerMetrics(server.stats(), out); });
  RoleMessage ready;
  ready.mutable_ready();
  agent.Send(ready);
  const absl::Status ended = ServeCommands(server, setup, files, inbox, agent);
  LeaveTrace(trace, options, setup.trace_dir(), files, agent);
  return ended;
}

}  // namespace

absl::Status RunServerRole(const RoleOptions& options) {
  options.log->Info("device {}", options.server_device);
  const std::string device = options.residence == nullptr ? "/cpu:0" : options.residence->device();
  // Destroyed from the last to the first: the listener with its streams, then the server, then the
  // agent that the server's events use.
  Inbox inbox;
  std::unique_ptr<Agent> agent;
  ServerSlot slot;
  rpc::Hello self = options.self;
  self.service = "params";
  ASSIGN_OR_RETURN(const auto listener,
                   options.transport->Listen(options.listen_address, self, slot.acceptor()));
  self.service = "control";
  ASSIGN_OR_RETURN(agent,
                   Agent::Join(*options.transport, options.master_address, self,
                               Registration(options, listener->address(), device), inbox.events()));
  ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
  if (command.has_stop()) return StopStatus(command.stop());
  if (!command.has_server_setup()) return absl::InternalError("expected a server's set-up");
  const absl::Status status = ServeParams(options, command.server_setup(), slot, inbox, *agent);
  EndRole(options, status, inbox, *agent);
  return status;
}

}  // namespace muster::master
