#include "master/roles.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <thread>

#include "kernels/device.h"
#include "master/agent.h"
#include "master/codecs.h"
#include "master/trace_parts.h"
#include "ps/checkpoint.h"
#include "ps/client.h"
#include "ps/job_server.h"
#include "ps/param_message.h"
#include "ps/residuals.h"
#include "ps/server_metrics.h"
#include "worker/loader.h"
#include "worker/trainer.h"
#include "worker/trainer_metrics.h"

namespace muster::master {
namespace {

// Commands from the master, in order, until the link is lost.
class Inbox {
 public:
  void Put(const MasterMessage& command) {
    MutexLock lock(mu_);
    commands_.push_back(command);
    arrived_.NotifyAll();
  }
  void Lose(const absl::Status& status) {
    MutexLock lock(mu_);
    lost_ = absl::UnavailableError(
        fmt::format("the master is gone: {}",
                    status.ok() ? "it closed the link" : std::string(status.message())));
    arrived_.NotifyAll();
  }
  // The next command; a lost link when there is none left.
  absl::StatusOr<MasterMessage> Take() {
    MutexLock lock(mu_);
    while (commands_.empty() && lost_.ok()) arrived_.Wait(mu_);
    if (commands_.empty()) return lost_;
    MasterMessage command = std::move(commands_.front());
    commands_.pop_front();
    return command;
  }

 private:
  Mutex mu_;
  CondVar arrived_;
  std::deque<MasterMessage> commands_ ABSL_GUARDED_BY(mu_);
  absl::Status lost_ ABSL_GUARDED_BY(mu_);
};

// A log whose warnings the user sees too.
class TellingLog : public Log {
 public:
  TellingLog(Log& log, Agent& agent) : log_(log), agent_(agent) {}
  void Write(Level level, std::string_view text) override {
    log_.Write(level, text);
    if (level != Level::kWarning) return;
    RoleMessage message;
    message.mutable_warning()->set_text(std::string(text));
    agent_.Send(message);
  }

 private:
  Log& log_;
  Agent& agent_;
};

void SendFailure(Agent& agent, const absl::Status& status) {
  RoleMessage message;
  message.mutable_failed()->set_code(static_cast<int>(status.code()));
  message.mutable_failed()->set_text(std::string(status.message()));
  agent.Send(message);
}

// After a failure was told: stays until the master ends the role, so that its line reaches the user
// before this process is seen to exit.
void AwaitStop(Inbox& inbox) {
  for (;;) {
    const absl::StatusOr<MasterMessage> command = inbox.Take();
    if (!command.ok() || command->has_stop()) return;
  }
}

absl::Status StopStatus(const Stop& stop) {
  return stop.reason().empty() ? absl::OkStatus() : absl::CancelledError(stop.reason());
}

std::string DescribeCpu(int threads) {
  return fmt::format("/cpu:0: {} thread{} (no GPU: built without CUDA)", threads,
                     threads == 1 ? "" : "s");
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

// Shows what `append` knows on the role's page, if there is one, as long as the handle lives.
std::shared_ptr<void> ShowMetrics(const RoleOptions& options, MetricSource append) {
  return options.metrics == nullptr ? nullptr : options.metrics->Show(std::move(append));
}

// Leaves the role's part of the job's trace, if there is to be one. Not to have it never fails a
// job.
void LeaveTrace(const Trace* trace, const RoleOptions& options, const std::string& folder,
                Agent& agent) {
  if (trace == nullptr) return;
  TellingLog log(*options.log, agent);
  if (trace->dropped() > 0) {
    log.Warning("the trace lacks {} events, for which there was no room", trace->dropped());
  }
  const absl::Status written = WriteTracePart(*trace, options.self, folder);
  if (!written.ok()) log.Warning("{}", std::string(written.message()));
}

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

// Answers the master's commands until it ends the role. Cuts are accepted before the reply goes
// out.
absl::Status ServeCommands(ps::Server& server, const ServerSetup& setup, Inbox& inbox,
                           Agent& agent) {
  for (;;) {
    ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
    if (command.has_stop()) return StopStatus(command.stop());
    if (command.has_cut()) {
      const int64_t clock = command.cut().clock();
      server.CutAt(clock, fmt::format("{}/step-{}", setup.checkpoint_dir(), clock));
      RoleMessage reply;
      reply.mutable_cut_accepted()->set_clock(clock);
      agent.Send(reply);
    }
  }
}

absl::Status ServeParams(const RoleOptions& options, const ServerSetup& setup, ServerSlot& slot,
                         Inbox& inbox, Agent& agent) {
  ps::ServerEvents events;
  events.on_cut = [&agent](int64_t clock, const std::string& file, const absl::Status& status) {
    RoleMessage message;
    message.mutable_cut_done()->set_clock(clock);
    message.mutable_cut_done()->set_file(file);
    if (!status.ok()) message.mutable_cut_done()->set_error(std::string(status.message()));
    agent.Send(message);
  };
  events.on_bad_push = [&agent](const absl::Status& status) { SendFailure(agent, status); };

  ps::ServerOptions server_options;
  server_options.index = options.self.index;
  server_options.num_replicas = setup.num_replicas();
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
    RETURN_IF_ERROR(server.Restore({setup.restore_files().begin(), setup.restore_files().end()},
                                   setup.start_clock()));
  }
  for (int64_t clock : setup.cuts()) {
    server.CutAt(clock, fmt::format("{}/step-{}", setup.checkpoint_dir(), clock));
  }
  slot.Set(std::move(parts), std::move(own_trace));
  const auto shown = ShowMetrics(
      options, [&server](std::vector<Metric>& out) { ps::ServerMetrics(server.stats(), out); });
  RoleMessage ready;
  ready.mutable_ready();
  agent.Send(ready);
  const absl::Status ended = ServeCommands(server, setup, inbox, agent);
  LeaveTrace(trace, options, setup.trace_dir(), agent);
  return ended;
}

// Everything a trainer needs that is ready before the servers are.
struct TrainerParts {
  std::unique_ptr<worker::Module> module;
  std::unique_ptr<Device> device;
  std::unique_ptr<worker::Model> model;
  ps::ParamTable table;
  std::shared_ptr<const worker::Dataset> training, validation, testing;
  std::unique_ptr<worker::Loader> loader;
};

absl::StatusOr<std::unique_ptr<TrainerParts>> MakeTrainerParts(const RoleOptions& options,
                                                               const TrainerSetup& setup,
                                                               Log& log) {
  const Training& training = setup.job().training();
  auto parts = std::make_unique<TrainerParts>();
  ASSIGN_OR_RETURN(parts->module, options.make_module(setup.job()));
  const uint64_t seed = training.seed();
  ASSIGN_OR_RETURN(parts->training,
                   parts->module->MakeDataset(worker::Split::kTraining, seed, log));
  ASSIGN_OR_RETURN(parts->validation,
                   parts->module->MakeDataset(worker::Split::kValidation, seed, log));
  ASSIGN_OR_RETURN(parts->testing, parts->module->MakeDataset(worker::Split::kTesting, seed, log));
  worker::Loader::Options loader;
  loader.max_batch = training.batch_size();
  parts->loader = std::make_unique<worker::Loader>(
      parts->training,
      worker::TrainingOrder(parts->training->size(), seed, setup.num_replicas(),
                            training.batch_size()),
      loader);
  parts->loader->SetReplicas({setup.leases().begin(), setup.leases().end()}, setup.start_clock());

  parts->device = MakeCpuDevice(options.threads);
  parts->model = parts->module->MakeModel(*parts->device);
  std::vector<ps::ParamSpec> params = parts->model->params();
  RETURN_IF_ERROR(SetCodecs(training.codec(), &params));
  ASSIGN_OR_RETURN(parts->table, ps::ParamTable::Make(std::move(params)));
  parts->model->Prepare(parts->table, training.batch_size());
  return parts;
}

worker::TrainerOptions TrainerOptionsOf(const TrainerSetup& setup, bool exact) {
  const Training& training = setup.job().training();
  worker::TrainerOptions options;
  options.leases.assign(setup.leases().begin(), setup.leases().end());
  options.num_replicas = setup.num_replicas();
  options.seed = training.seed();
  options.start = setup.start_clock();
  options.target = setup.target_clock();
  options.batch_size = training.batch_size();
  options.summary_interval = SummaryInterval(training);
  options.evaluation_interval = training.evaluation().interval();
  options.exact = exact;
  const double clip_norm = training.optimizer().clip_norm();
  if (clip_norm > 0 && !exact)
    options.clip_norm = clip_norm;  // under BSP the servers clip the mean
  return options;
}

worker::TrainerEvents EventsTo(Agent& agent) {
  worker::TrainerEvents events;
  events.on_progress = [&agent](const worker::ReplicaProgress& progress) {
    RoleMessage message;
    Progress* out = message.mutable_progress();
    out->set_replica(progress.replica);
    out->set_step(progress.step);
    out->set_loss(progress.loss);
    out->set_samples(progress.samples);
    out->set_missed(progress.missed);
    out->set_data_ms(progress.times.data);
    out->set_compute_ms(progress.times.compute);
    out->set_push_ms(progress.times.push);
    out->set_wait_ms(progress.times.wait);
    out->set_pull_ms(progress.times.pull);
    agent.Send(message);
  };
  events.on_evaluated = [&agent](const worker::ShareEvaluation& share) {
    RoleMessage message;
    Evaluated* out = message.mutable_evaluated();
    out->set_replica(share.replica);
    out->set_step(share.step);
    out->set_split(share.split == worker::Split::kTesting ? "testing" : "validation");
    for (int64_t count : share.confusion) out->add_confusion(count);
    out->set_shares(share.shares);
    agent.Send(message);
  };
  return events;
}

// Handles the commands that reach a running trainer, on a thread of its own, until Stop or the link
// is lost.
class TrainerControl {
 public:
  // `saver` may be null.
  TrainerControl(worker::Trainer& trainer, ps::ResidualSaver* saver, Inbox& inbox, Agent& agent)
      : trainer_(trainer), saver_(saver), inbox_(inbox), agent_(agent), thread_([this] {
          Loop();
        }) {}
  // Waits for the end that the master decides and returns it.
  absl::Status Join() {
    thread_.join();
    return status_;
  }

 private:
  void Loop() {
    for (;;) {
      absl::StatusOr<MasterMessage> command = inbox_.Take();
      if (!command.ok()) {
        status_ = command.status();
        trainer_.Cancel(status_);
        return;
      }
      if (command->has_hold()) {
        RoleMessage reply;
        reply.mutable_held()->set_started(trainer_.Hold());
        agent_.Send(reply);
      } else if (command->has_set_target()) {
        // The run ends there, with a checkpoint.
        if (saver_ != nullptr) saver_->AddCut(command->set_target().clock());
        trainer_.SetTarget(command->set_target().clock(), command->set_target().final_evaluation());
      } else if (command->has_stop()) {
        status_ = StopStatus(command->stop());
        trainer_.Cancel(absl::CancelledError("stopped by the master"));
        return;
      }
    }
  }

  worker::Trainer& trainer_;
  ps::ResidualSaver* const saver_;
  Inbox& inbox_;
  Agent& agent_;
  absl::Status status_;  // written by the thread, read after join
  std::thread thread_;
};

// Gives the replicas the residuals that they had, and saves them at the cuts; null where codecs
// keep nothing back. Borrows all but the set-up.
absl::StatusOr<std::unique_ptr<ps::ResidualSaver>> KeepResiduals(const TrainerSetup& setup,
                                                                 const ps::ParamTable& table,
                                                                 const ps::Partition& partition,
                                                                 ps::Client& client, Agent& agent) {
  for (int i = 0; i < std::min(setup.leases_size(), setup.residual_files_size()); ++i) {
    RETURN_IF_ERROR(ps::RestoreResiduals(client, table, setup.leases(i), setup.residual_files(i),
                                         setup.start_clock()));
  }
  if (!ps::HasResiduals(table)) return nullptr;
  const auto tell = [&agent](int64_t clock, int32_t replica, const std::string& file,
                             const absl::Status& status) {
    RoleMessage message;
    message.mutable_cut_done()->set_clock(clock);
    message.mutable_cut_done()->set_replica(replica);
    message.mutable_cut_done()->set_file(file);
    if (!status.ok()) message.mutable_cut_done()->set_error(std::string(status.message()));
    agent.Send(message);
  };
  auto saver = std::make_unique<ps::ResidualSaver>(
      client, table, partition, std::vector<int32_t>(setup.leases().begin(), setup.leases().end()),
      setup.checkpoint_dir(), tell);
  for (const int64_t clock : setup.residual_cuts()) saver->AddCut(clock);
  return saver;
}

absl::Status Train(const RoleOptions& options, const TrainerSetup& setup, TrainerParts& parts,
                   Inbox& inbox, Agent& agent) {
  ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
  if (command.has_stop()) return StopStatus(command.stop());
  if (!command.has_placement()) return absl::InternalError("expected a placement");
  const Placement& placement = command.placement();
  ASSIGN_OR_RETURN(const ps::ParamTable theirs, ps::FromMessage(placement.params()));
  if (ps::ModelFingerprint(theirs) != ps::ModelFingerprint(parts.table)) {
    return absl::FailedPreconditionError("the master's model has other parameters than mine");
  }
  const std::vector<std::string> servers(placement.servers().begin(), placement.servers().end());
  const ps::Partition partition = ps::MakePartition(parts.table, static_cast<int>(servers.size()));
  rpc::Hello self = options.self;
  self.service = "params";
  ASSIGN_OR_RETURN(const auto client,
                   ps::Client::Connect(*options.transport, servers, self, parts.table, partition,
                                       ps::ClientOptions(), *options.log));
  ASSIGN_OR_RETURN(const auto policy, ps::PolicyOf(setup.job().training()));
  const std::unique_ptr<Trace> trace =
      MakeTrace(setup.job().training(), options.self, options.pid, options.host);
  worker::TrainerOptions trainer_options =
      TrainerOptionsOf(setup, policy->exact() && policy->backups() == 0);
  trainer_options.trace = trace.get();
  ASSIGN_OR_RETURN(const auto saver, KeepResiduals(setup, parts.table, partition, *client, agent));
  worker::TrainerEvents events = EventsTo(agent);
  events.on_clock = [&agent, saver = saver.get()](int64_t clock) {
    agent.SetClock(clock);
    if (saver != nullptr) saver->OnClock(clock);
  };
  worker::Trainer trainer(*parts.model, parts.table, *client, *parts.loader, parts.validation,
                          parts.testing, std::move(trainer_options), std::move(events));
  const auto shown = ShowMetrics(options, [&trainer](std::vector<Metric>& out) {
    worker::TrainerMetrics(trainer.stats(), out);
  });
  TrainerControl control(trainer, saver.get(), inbox, agent);
  const absl::Status trained = trainer.Run();
  RoleMessage message;
  if (trained.ok()) {
    message.mutable_finished();
    agent.Send(message);
  } else if (!absl::IsCancelled(trained)) {
    options.log->Error("{}", std::string(trained.message()));
    SendFailure(agent, trained);
  }
  // The servers stay until all are done, and so does this role: the master says when.
  const absl::Status ended = control.Join();
  LeaveTrace(trace.get(), options, setup.trace_dir(), agent);
  return ended;
}

}  // namespace

absl::Status RunServerRole(const RoleOptions& options) {
  options.log->Info("device /cpu:0 (parameter servers work on the CPU)");
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
  Agent::Events events{[&inbox](const MasterMessage& command) { inbox.Put(command); },
                       [&inbox](const absl::Status& status) { inbox.Lose(status); }};
  ASSIGN_OR_RETURN(
      agent, Agent::Join(*options.transport, options.master_address, self,
                         Registration(options, listener->address(), "/cpu:0"), std::move(events)));
  ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
  if (command.has_stop()) return StopStatus(command.stop());
  if (!command.has_server_setup()) return absl::InternalError("expected a server's set-up");
  const absl::Status status = ServeParams(options, command.server_setup(), slot, inbox, *agent);
  if (!status.ok() && !absl::IsCancelled(status)) {
    options.log->Error("{}", std::string(status.message()));
    SendFailure(*agent, status);
    AwaitStop(inbox);
  }
  return status;
}

absl::Status RunTrainerRole(const RoleOptions& options) {
  const std::string device = DescribeCpu(options.threads);
  options.log->Info("device {}", device);
  Inbox inbox;
  rpc::Hello self = options.self;
  self.service = "control";
  Agent::Events events{[&inbox](const MasterMessage& command) { inbox.Put(command); },
                       [&inbox](const absl::Status& status) { inbox.Lose(status); }};
  ASSIGN_OR_RETURN(const auto agent,
                   Agent::Join(*options.transport, options.master_address, self,
                               Registration(options, "", device), std::move(events)));
  ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
  if (command.has_stop()) return StopStatus(command.stop());
  if (!command.has_trainer_setup()) return absl::InternalError("expected a trainer's set-up");
  const TrainerSetup& setup = command.trainer_setup();
  // Every trainer comes to know the same bad clips: one of them tells the user.
  const bool tells = std::count(setup.leases().begin(), setup.leases().end(), 0) > 0;
  TellingLog telling(*options.log, *agent);
  absl::Status status;
  if (auto parts = MakeTrainerParts(options, setup, tells ? telling : *options.log); parts.ok()) {
    RoleMessage ready;
    ready.mutable_ready();
    agent->Send(ready);
    status = Train(options, setup, **parts, inbox, *agent);
  } else {
    status = parts.status();
  }
  if (!status.ok() && !absl::IsCancelled(status)) {
    options.log->Error("{}", std::string(status.message()));
    SendFailure(*agent, status);
    AwaitStop(inbox);
  }
  return status;
}

absl::StatusOr<std::unique_ptr<worker::Module>> MakeModuleOf(const Job& job) {
  const TrainingInput& input = job.training_input();
  ASSIGN_OR_RETURN(const worker::ModuleType* type, worker::FindModule(input.python_module()));
  const std::vector<std::string> args(input.args().begin(), input.args().end());
  ASSIGN_OR_RETURN(const worker::FlagValues flags, worker::ParseFlags(*type, args, nullptr));
  return type->make(flags);
}

int64_t SummaryInterval(const Training& training) {
  return training.summary_interval() > 0 ? training.summary_interval() : 10;
}

}  // namespace muster::master
