// The role of a trainer: the chief's and the workers'.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "kernels/device.h"
#include "kernels/philox.h"
#include "master/codecs.h"
#include "master/remote_files.h"
#include "master/role_end.h"
#include "master/trace_parts.h"
#include "ps/checkpoint.h"
#include "ps/client.h"
#include "ps/job_server.h"
#include "ps/param_message.h"
#include "ps/residuals.h"
#include "worker/feed.h"
#include "worker/loader_group.h"
#include "worker/model_group.h"
#include "worker/trainer.h"
#include "worker/trainer_metrics.h"

namespace muster::master {
namespace {

// Everything a trainer needs that is ready before the servers are.
struct TrainerParts {
  std::unique_ptr<worker::Module> module;
  std::unique_ptr<worker::ModelGroup> models;
  ps::ParamTable table;
  bool exact = true;  // as in worker::TrainerOptions
  std::unique_ptr<worker::LoaderGroup> training, validation, testing;
  std::string data;  // fingerprints of the splits, one behind the other
  bool told_of_graphs = false;
};

worker::Loader::Options OptionsOfLoader(int threads) {
  return {.threads = threads, .depth = threads + 1};
}

// Batches of a split for the parts' models, which are prepared: a share for each.
absl::StatusOr<std::unique_ptr<worker::LoaderGroup>> MakeLoaders(const TrainerSetup& setup,
                                                                 TrainerParts& parts,
                                                                 worker::Split split, int threads,
                                                                 Log& log) {
  const Training& training = setup.job().training();
  const int64_t batch = training.batch_size();
  const size_t shares = parts.models->size();
  ASSIGN_OR_RETURN(const auto dataset, parts.module->MakeDataset(split, training.seed(), log));
  parts.data += dataset->Fingerprint();
  const worker::Order order =
      split == worker::Split::kTraining
          ? worker::TrainingOrder(dataset->size(), training.seed(), setup.num_replicas(), batch)
          : worker::EvaluationOrder(dataset->size(), parts.exact ? setup.num_replicas() : 1, batch);
  std::vector<std::unique_ptr<worker::Loader>> loaders;
  for (size_t i = 0; i < shares; ++i) {
    ASSIGN_OR_RETURN(auto feed, worker::MakeFeed(dataset, worker::LargestShare(batch, shares),
                                                 parts.models->model(i).stream()));
    loaders.push_back(std::make_unique<worker::Loader>(
        std::move(feed), worker::ShareOf(order, i, shares),
        OptionsOfLoader(std::max(1, threads / static_cast<int>(shares)))));
  }
  return std::make_unique<worker::LoaderGroup>(std::move(loaders));
}

absl::StatusOr<std::unique_ptr<TrainerParts>> MakeTrainerParts(const RoleOptions& options,
                                                               const TrainerSetup& setup,
                                                               const TrainerDevice& device,
                                                               Log& log) {
  const Training& training = setup.job().training();
  const auto devices = static_cast<int64_t>(device.devices.size());
  if (training.batch_size() < devices) {
    return absl::InvalidArgumentError(
        fmt::format("training.batchSize is {}, and {} GPUs share each batch; write at least {}, or "
                    "a machine type with fewer GPUs",
                    training.batch_size(), devices, devices));
  }
  auto parts = std::make_unique<TrainerParts>();
  ASSIGN_OR_RETURN(parts->module, options.make_module(setup.job()));
  std::vector<std::unique_ptr<worker::Model>> models;
  for (const auto& one : device.devices) models.push_back(parts->module->MakeModel(*one));
  parts->models =
      std::make_unique<worker::ModelGroup>(std::move(models), device.communicator.get());
  std::vector<ps::ParamSpec> params = parts->models->params();
  RETURN_IF_ERROR(SetCodecs(training.codec(), &params));
  ASSIGN_OR_RETURN(parts->table, ps::ParamTable::Make(std::move(params)));
  if (const absl::Status made = parts->models->Prepare(parts->table, training.batch_size());
      !made.ok()) {
    if (!absl::IsResourceExhausted(made)) return made;
    return absl::ResourceExhaustedError(
        fmt::format("training.batchSize is {}: {}; write a smaller one", training.batch_size(),
                    std::string(made.message())));
  }
  ASSIGN_OR_RETURN(const auto policy, ps::PolicyOf(training));
  parts->exact = policy->exact() && policy->backups() == 0;
  using worker::Split;
  const int threads = device.loader_threads;
  ASSIGN_OR_RETURN(parts->training, MakeLoaders(setup, *parts, Split::kTraining, threads, log));
  parts->training->SetReplicas({setup.leases().begin(), setup.leases().end()}, setup.start_clock());
  ASSIGN_OR_RETURN(parts->validation, MakeLoaders(setup, *parts, Split::kValidation, threads, log));
  ASSIGN_OR_RETURN(parts->testing, MakeLoaders(setup, *parts, Split::kTesting, threads, log));
  return parts;
}

// For the placement's leases. Their replicas go on with the steps that the servers have not counted
// whole. That step's version is everywhere: let t be the least clock that any slice has for a
// replica v. A slice at version t + 2 had v's step t + 1, which v computed after all slices had
// reached version t + 1 with its step t. So all are at t or t + 1, and keep version t.
absl::StatusOr<worker::TrainerOptions> TrainerOptionsOf(const TrainerSetup& setup,
                                                        const Placement& placement, bool exact,
                                                        ps::Client& client) {
  const Training& training = setup.job().training();
  worker::TrainerOptions options;
  options.leases.assign(placement.leases().begin(), placement.leases().end());
  if (options.leases.empty()) return absl::InternalError("a placement without leases");
  for (const int32_t replica : options.leases) {
    ASSIGN_OR_RETURN(const int64_t clock, client.Clock(replica));
    options.clocks.push_back(clock);
  }
  options.num_replicas = setup.num_replicas();
  options.seed = training.seed();
  options.start = *std::ranges::min_element(options.clocks);
  options.target = placement.target().clock();
  options.final_evaluation = placement.target().final_evaluation();
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

// Handles the commands that reach a running trainer, on a thread of its own, until Pause, Stop or
// the link is lost.
class TrainerControl {
 public:
  // `saver` may be null.
  TrainerControl(worker::Trainer& trainer, ps::ResidualSaver* saver, Inbox& inbox, Agent& agent)
      : trainer_(trainer), saver_(saver), inbox_(inbox), agent_(agent), thread_([this] {
          Loop();
        }) {}
  // Waits for the end that the master decides: what the last command was.
  absl::StatusOr<MasterMessage> Join() {
    thread_.join();
    return last_;
  }

 private:
  void Loop() {
    for (;;) {
      absl::StatusOr<MasterMessage> command = inbox_.Take();
      if (!command.ok() || command->has_pause() || command->has_stop()) {
        trainer_.Cancel(command.ok() ? absl::CancelledError("stopped by the master")
                                     : command.status());
        last_ = std::move(command);
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
      }
    }
  }

  worker::Trainer& trainer_;
  ps::ResidualSaver* const saver_;
  Inbox& inbox_;
  Agent& agent_;
  absl::StatusOr<MasterMessage> last_;  // written by the thread, read after join
  std::thread thread_;
};

// Gives the replicas the residuals that they had, and saves them at the cuts; null where codecs
// keep nothing back. Borrows all but the set-up.
absl::StatusOr<std::unique_ptr<ps::ResidualSaver>> KeepResiduals(
    const TrainerSetup& setup, const ps::ParamTable& table, const ps::Partition& partition,
    ps::Client& client, const RemoteFiles& files, Agent& agent) {
  for (int i = 0; i < std::min(setup.leases_size(), setup.residual_files_size()); ++i) {
    RETURN_IF_ERROR(files.Bring(setup.residual_files(i)));
    RETURN_IF_ERROR(ps::RestoreResiduals(client, table, setup.leases(i),
                                         files.Here(setup.residual_files(i)), setup.start_clock()));
  }
  if (!ps::HasResiduals(table)) return nullptr;
  const auto tell = [&agent, &files](int64_t clock, int32_t replica, const std::string& file,
                                     absl::Status status) {
    if (status.ok()) status = files.Send(file);
    RoleMessage message;
    message.mutable_cut_done()->set_clock(clock);
    message.mutable_cut_done()->set_replica(replica);
    message.mutable_cut_done()->set_file(files.There(file));
    if (!status.ok()) message.mutable_cut_done()->set_error(std::string(status.message()));
    agent.Send(message);
  };
  auto saver = std::make_unique<ps::ResidualSaver>(
      client, table, partition, std::vector<int32_t>(setup.leases().begin(), setup.leases().end()),
      files.Here(setup.checkpoint_dir()), tell);
  for (const int64_t clock : setup.residual_cuts()) saver->AddCut(clock);
  return saver;
}

// What lasts from one placement to the next.
struct Terms {
  const RoleOptions& options;
  const TrainerSetup& setup;
  TrainerParts& parts;
  Inbox& inbox;
  Agent& agent;
  const RemoteFiles files;
  const std::unique_ptr<Trace> trace;
  worker::TrainerStats stats = {};  // of the placements before
};

// Trains as `placement` says, until the master pauses or stops the trainer: its command. Fails when
// that cannot begin, or the link is lost.
absl::StatusOr<MasterMessage> TrainOnce(const Placement& placement, Terms& terms) {
  const RoleOptions& options = terms.options;
  const TrainerSetup& setup = terms.setup;
  TrainerParts& parts = terms.parts;
  Agent& agent = terms.agent;
  ASSIGN_OR_RETURN(const ps::ParamTable theirs, ps::FromMessage(placement.params()));
  if (ps::ModelFingerprint(theirs) != ps::ModelFingerprint(parts.table)) {
    return absl::FailedPreconditionError("the master's model has other parameters than mine");
  }
  const std::vector<std::string> servers(placement.servers().begin(), placement.servers().end());
  const ps::Partition partition = ps::MakePartition(parts.table, static_cast<int>(servers.size()));
  rpc::Hello self = options.self;
  self.service = "params";
  // Outlives the client: servers may hold gradients in its arenas until the streams are closed.
  std::optional<worker::Trainer> trainer;
  ps::ClientOptions client_options;
  client_options.given_up = [&inbox = terms.inbox] { return inbox.CallsOff(); };
  const auto connected =
      options.residence != nullptr
          ? ps::Residence::Connect(options.residence, *parts.models->streams().front())
          : ps::Client::Connect(*options.transport, servers, self, parts.table, partition,
                                client_options, *options.log);
  if (absl::IsCancelled(connected.status())) return terms.inbox.Take();
  RETURN_IF_ERROR(connected.status());
  const std::unique_ptr<ps::Client>& client = *connected;
  absl::StatusOr<worker::TrainerOptions> asked =
      TrainerOptionsOf(setup, placement, parts.exact, *client);
  if (absl::IsUnavailable(asked.status())) {
    // As when it breaks later.
    options.log->Error("{}", std::string(asked.status().message()));
    SendFailure(agent, asked.status(), /*stays=*/true);
    return terms.inbox.Take();
  }
  RETURN_IF_ERROR(asked.status());
  worker::TrainerOptions trainer_options = *std::move(asked);
  trainer_options.trace = terms.trace.get();
  if (!std::ranges::equal(placement.leases(), setup.leases()) ||
      trainer_options.start != setup.start_clock()) {
    parts.training->SetReplicas(trainer_options.leases, trainer_options.start);
  }
  ASSIGN_OR_RETURN(const auto saver,
                   KeepResiduals(setup, parts.table, partition, *client, terms.files, agent));
  worker::TrainerEvents events = EventsTo(agent);
  events.on_clock = [&agent, &parts, log = options.log, saver = saver.get()](int64_t clock) {
    agent.SetClock(clock);
    if (saver != nullptr) saver->OnClock(clock);
    if (parts.told_of_graphs) return;
    if (const absl::Status graphs = parts.models->graph_status(); !graphs.ok()) {
      log->Warning("steps go without CUDA graphs: {}", std::string(graphs.message()));
      parts.told_of_graphs = true;
    }
  };
  trainer.emplace(*parts.models, parts.table, *client,
                  worker::TrainerLoaders{*parts.training, *parts.validation, *parts.testing},
                  std::move(trainer_options), std::move(events));
  const auto shown =
      ShowMetrics(options, [&trainer, before = terms.stats](std::vector<Metric>& out) {
        worker::TrainerStats stats = before;
        worker::TrainerMetrics(stats += trainer->stats(), out);
      });
  TrainerControl control(*trainer, saver.get(), terms.inbox, agent);
  const absl::Status trained = trainer->Run();
  RoleMessage message;
  if (trained.ok()) {
    message.mutable_finished();
    agent.Send(message);
  } else if (!absl::IsCancelled(trained)) {
    options.log->Error("{}", std::string(trained.message()));
    SendFailure(agent, trained, /*stays=*/true);
  }
  // The servers stay until all are done, and so does this role: the master says when.
  absl::StatusOr<MasterMessage> last = control.Join();
  terms.stats += trainer->stats();
  return last;
}

absl::Status Train(Terms& terms) {
  absl::StatusOr<MasterMessage> command = terms.inbox.Take();
  while (command.ok() && !command->has_stop()) {
    if (command->has_placement()) {
      command = TrainOnce(command->placement(), terms);
      continue;
    }
    if (command->has_pause()) {
      RoleMessage paused;
      paused.mutable_paused();
      terms.agent.Send(paused);
    }
    command = terms.inbox.Take();
  }
  LeaveTrace(terms.trace.get(), terms.options, terms.setup.trace_dir(), terms.files, terms.agent);
  return command.ok() ? StopStatus(command->stop()) : command.status();
}

// Passes on the wish that this worker leave, as long as it lives.
class Leavable {
 public:
  Leavable(const RoleOptions& options, Agent& agent) : leave_(options.leave) {
    if (leave_ == nullptr) return;
    leave_->Listen([&agent, log = options.log] {
      log->Info("asks the master to let it leave");
      RoleMessage message;
      message.mutable_leave();
      agent.Send(message);
    });
  }
  ~Leavable() {
    if (leave_ != nullptr) leave_->Listen(nullptr);
  }
  Leavable(const Leavable&) = delete;
  Leavable& operator=(const Leavable&) = delete;

 private:
  LeaveNotice* const leave_;
};

}  // namespace

absl::Status RunTrainerRole(const RoleOptions& options) {
  absl::StatusOr<TrainerDevice> device = options.make_device();
  // The master hears of it as of any failure of a role that has joined.
  const std::string description = device.ok() ? device->description : "none";
  options.log->Info("device {}", description);
  if (device.ok() && !device->warning.empty()) options.log->Warning("{}", device->warning);
  Inbox inbox;
  rpc::Hello self = options.self;
  self.service = "control";
  Register registration = Registration(options, "", description);
  if (device.ok()) registration.set_device_kind(device->kind());
  ASSIGN_OR_RETURN(const auto agent, Agent::Join(*options.transport, options.master_address, self,
                                                 registration, inbox.events()));
  const Leavable leavable(options, *agent);
  ASSIGN_OR_RETURN(const MasterMessage command, inbox.Take());
  if (command.has_stop()) return StopStatus(command.stop());
  if (!command.has_trainer_setup()) return absl::InternalError("expected a trainer's set-up");
  const TrainerSetup& setup = command.trainer_setup();
  // Every trainer comes to know the same bad clips: one of them tells the user.
  const bool tells = std::count(setup.leases().begin(), setup.leases().end(), 0) > 0;
  TellingLog telling(*options.log, *agent);
  absl::Status status = device.status();
  if (!status.ok()) {
    EndRole(options, status, inbox, *agent);
    return status;
  }
  if (auto parts = MakeTrainerParts(options, setup, *device, tells ? telling : *options.log);
      parts.ok()) {
    RoleMessage ready;
    ready.mutable_ready()->set_data_fingerprint(
        (*parts)->data.empty() ? "" : fmt::format("{:016x}", HashName((*parts)->data)));
    agent->Send(ready);
    Terms terms = {options,
                   setup,
                   **parts,
                   inbox,
                   *agent,
                   RemoteFiles(options, setup.place()),
                   MakeTrace(setup.job().training(), options.self, options.pid, options.host)};
    status = Train(terms);
  } else {
    status = parts.status();
  }
  EndRole(options, status, inbox, *agent);
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
