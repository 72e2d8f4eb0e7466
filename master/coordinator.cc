#include "master/coordinator.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <map>
#include <set>
#include <variant>

#include "kernels/device.h"
#include "master/agent.h"
#include "master/gather.h"
#include "master/leases.h"
#include "master/membership.h"
#include "master/param_message.h"
#include "master/resume.h"
#include "master/roles.h"
#include "master/run_record.h"
#include "ps/checkpoint.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"
#include "worker/export.h"

namespace muster::master {
namespace {

constexpr int64_t kStartTimeoutMs = 60'000;
constexpr int64_t kSilenceMs = 30'000;
constexpr int64_t kStopGraceMs = 5'000;
constexpr int64_t kLaggingIntervalMs = 1'000;
constexpr auto kTick = std::chrono::milliseconds(200);

// What happens to a coordinator.
struct Joined {
  RoleId role;
  std::shared_ptr<rpc::Stream> stream;
};
struct Said {
  RoleId role;
  RoleMessage message;
};
struct Left {
  RoleId role;
  absl::Status status;
};
struct Interrupted {
  std::string reason;
};
struct Broken {
  absl::Status status;
};
struct Tick {};
using Event = std::variant<Tick, Joined, Said, Left, Interrupted, Broken>;

// Thread-safe queue of events with one reader.
class EventQueue {
 public:
  void Put(Event event) {
    MutexLock lock(mu_);
    events_.push_back(std::move(event));
    arrived_.NotifyOne();
  }
  // The next event, or Tick when none came in time.
  Event Take() {
    const auto deadline = std::chrono::steady_clock::now() + kTick;
    MutexLock lock(mu_);
    while (events_.empty()) {
      if (!arrived_.WaitUntil(mu_, deadline) && events_.empty()) return Tick{};
    }
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  Mutex mu_;
  CondVar arrived_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
};

// Puts what one role says into the queue.
class RoleHandler : public rpc::StreamHandler {
 public:
  RoleHandler(RoleId role, std::shared_ptr<EventQueue> queue)
      : role_(role), queue_(std::move(queue)) {}
  void OnMessage(rpc::Message message) override {
    RoleMessage said;
    if (absl::Status status = UnpackControl(message, &said); !status.ok()) {
      queue_->Put(Left{role_, status});
      return;
    }
    queue_->Put(Said{role_, std::move(said)});
  }
  void OnClosed(absl::Status status) override { queue_->Put(Left{role_, std::move(status)}); }

 private:
  const RoleId role_;
  const std::shared_ptr<EventQueue> queue_;
};

const char* KindName(RoleId::Kind kind) {
  return kind == RoleId::Kind::kChief ? "chief" : kind == RoleId::Kind::kWorker ? "worker" : "ps";
}

std::string FlattenLines(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

class CoordinatorImpl : public Coordinator {
 public:
  explicit CoordinatorImpl(CoordinatorOptions options)
      : options_(std::move(options)),
        queue_(std::make_shared<EventQueue>()),
        membership_(options_.chief, options_.workers, options_.servers,
                    options_.job.cluster().start_timeout_s() > 0
                        ? options_.job.cluster().start_timeout_s() * int64_t{1000}
                        : kStartTimeoutMs,
                    kSilenceMs, options_.now_ms()),
        losses_(options_.num_replicas),
        cuts_(options_.servers) {}

  absl::Status Start();
  const std::string& address() const override { return listener_->address(); }
  absl::Status Run() override;
  void Interrupt(const std::string& reason) override { queue_->Put(Interrupted{reason}); }
  void Fail(absl::Status status) override { queue_->Put(Broken{std::move(status)}); }

 private:
  // A trainer's replicas, by its place among the trainers (chief first).
  const std::vector<int32_t>& LeasesOf(const RoleId& role) const {
    const int place = role.kind == RoleId::Kind::kChief ? 0 : options_.chief + role.index;
    return leases_[place];
  }
  static bool IsTrainer(const RoleId& role) { return role.kind != RoleId::Kind::kServer; }

  void Handle(const Joined& joined);
  void Handle(const Said& said);
  void Handle(const Left& left);
  void Handle(const Interrupted& interrupted);
  void Handle(const Broken& broken) { End(broken.status); }
  void Handle(const Tick&) {}

  void OnRegister(const RoleId& role, const Register& registration);
  void OnReady(Member& member);
  void OnProgress(const Progress& progress);
  void OnEvaluated(const Evaluated& evaluated);
  void OnCut(const RoleId& role, const CutDone& done);
  void OnHeld(const RoleId& role, const Held& held);
  void OnCutAccepted(const RoleId& role);
  void SendTarget();
  void OnFinished(const RoleId& role);
  void OnFailed(const RoleId& role, const Failed& failed);

  void SendSetups();
  void SendTrainerSetup(const RoleId& role);
  void SendPlacement();
  void CommitCut(const CutGather::Result& result);
  void AddAccuracy(int64_t step);
  void FinishIfDone();
  absl::Status ExportModel(ResultLine* result);
  void End(absl::Status status);
  void StopRoles(const std::string& reason);
  void UpdateReplicas();
  void TellLagging();
  std::vector<LaggingReplica> Lagging() const;
  void Send(const RoleId& role, const MasterMessage& message);
  void SendToAll(RoleId::Kind kind, const MasterMessage& message);
  std::vector<RoleId> Trainers() const;

  const CoordinatorOptions options_;
  const std::shared_ptr<EventQueue> queue_;
  std::unique_ptr<rpc::Listener> listener_;

  // All below is owned by Run's thread.
  Membership membership_;
  std::unique_ptr<worker::Module> module_;
  ps::ParamTable table_;
  RunIdentity identity_;
  std::optional<Checkpoint> resume_;
  std::vector<std::vector<int32_t>> leases_;
  std::unique_ptr<RunRecord> record_;
  LossGather losses_;
  EvaluationGather evaluations_;
  CutGather cuts_;
  struct Peer {
    RoleId role;
    std::shared_ptr<rpc::Stream> stream;
    bool left = false;
  };
  std::vector<Peer> peers_;

  int64_t start_ = 0;   // clock that the run starts from
  int64_t total_ = 0;   // steps of the job
  int64_t target_ = 0;  // clock at which this run ends
  bool setups_sent_ = false, placed_ = false, running_ = false;
  int interrupts_ = 0;
  std::string interrupt_reason_;
  std::map<std::string, int64_t> held_;  // by role name: steps begun
  std::set<std::string> cut_accepted_;   // servers that know the cut of the interrupt
  bool target_sent_ = false;
  std::map<int64_t, double> validation_;  // accuracy by step
  EvaluationPoint testing_;               // the last one
  int64_t committed_ = -1;                // newest checkpoint of this run
  Manifest manifest_;                     // its manifest
  std::string final_cut_error_;
  int64_t last_loss_step_ = 0, last_loss_ms_ = 0;
  std::map<int32_t, int64_t> replica_ms_;  // by replica: time of its last progress
  bool lagging_ = false;                   // the last word about it was that somebody lags
  int64_t lagging_told_ms_ = 0;
  std::optional<absl::Status> ended_;
};

absl::Status CoordinatorImpl::Start() {
  ASSIGN_OR_RETURN(module_, options_.make_module(options_.job));
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  ASSIGN_OR_RETURN(table_, ps::ParamTable::Make(module_->MakeModel(*device)->params()));
  identity_ = IdentityOf(options_.job, options_.num_replicas, table_, options_.self.build_id,
                         /*isa=*/"");
  std::vector<std::string> warnings;
  ASSIGN_OR_RETURN(resume_, FindResumePoint(options_.dir, identity_, &warnings));
  total_ = target_ = TotalSteps(options_.job.training());
  start_ = resume_.has_value() ? resume_->step : 0;
  committed_ = resume_.has_value() ? resume_->step : -1;
  if (start_ > total_) {
    return absl::FailedPreconditionError(fmt::format(
        "{} holds a checkpoint of step {}, beyond the {} steps of the job; ask for more steps or "
        "another --job-dir",
        options_.dir.root(), start_, total_));
  }
  leases_ = AssignLeases(options_.num_replicas, options_.chief + options_.workers);

  JobState state;
  state.job_id = options_.job.job_id();
  state.state = RunState::kPreparing;
  if (auto previous = ReadJobState(options_.dir.state_json()); previous.ok()) {
    state.create_ms = previous->create_ms;
    if (resume_.has_value()) {
      state.metrics = previous->metrics;
      state.best_checkpoint = previous->best_checkpoint;
    }
  }
  if (state.create_ms == 0) state.create_ms = options_.now_ms();
  state.step = start_;
  state.total_steps = total_;
  state.resumed_from = resume_.has_value() ? start_ : -1;
  state.dollars_per_hour = options_.dollars_per_hour;
  state.exact = options_.job.training().consistency().mode() == Consistency::BSP;
  RunRecord::Options record;
  record.dir = options_.dir;
  record.log = options_.log;
  record.on_status = options_.on_status;
  record.now_ms = options_.now_ms;
  record.start_step = start_;
  record.labels = module_->labels();
  record.report.title = options_.job.job_id();
  record.report.plan = options_.plan;
  record.report.settings = options_.settings;
  record.report.substitutions = options_.substitutions;
  record_ = std::make_unique<RunRecord>(std::move(record), std::move(state));

  ASSIGN_OR_RETURN(
      listener_,
      options_.transport->Listen(
          options_.listen_address, options_.self,
          [queue = queue_](const rpc::Hello& peer, std::shared_ptr<rpc::Stream> stream)
              -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
            const std::optional<RoleId> role = ParseRole(peer.role, peer.index);
            if (!role.has_value() || peer.service != "control") {
              return absl::InvalidArgumentError(fmt::format("{}-{} ({}) is no role of a job",
                                                            peer.role, peer.index, peer.service));
            }
            queue->Put(Joined{*role, std::move(stream)});
            return std::make_unique<RoleHandler>(*role, queue);
          }));
  options_.on_status(ListeningLine{listener_->address()});
  for (const std::string& warning : warnings) {
    record_->Message(MessageLine::Level::kWarning, warning);
  }
  return absl::OkStatus();
}

absl::Status CoordinatorImpl::Run() {
  UpdateReplicas();
  record_->SetState(RunState::kPreparing, "waiting for the roles");
  if (resume_.has_value()) {
    record_->Message(MessageLine::Level::kInfo,
                     fmt::format("resuming from the checkpoint of step {}", start_));
    record_->AddEvent(start_, fmt::format("resumed from step {}", start_));
  }
  while (!ended_.has_value()) {
    Event event = queue_->Take();
    std::visit([this](const auto& what) { Handle(what); }, event);
    if (ended_.has_value()) break;
    if (absl::Status status = membership_.CheckTime(options_.now_ms()); !status.ok()) {
      End(status);
      break;
    }
    TellLagging();
    record_->Flush(false);
  }
  // The roles have been told; they close their streams when they are done. Checkpoints that were
  // under way are still committed.
  const int64_t deadline = options_.now_ms() + kStopGraceMs;
  const auto all_left = [this] {
    return std::all_of(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.left; });
  };
  while (!all_left() && options_.now_ms() < deadline) {
    Event event = queue_->Take();
    if (const Left* left = std::get_if<Left>(&event)) {
      for (Peer& peer : peers_) peer.left |= peer.role == left->role;
    } else if (const Said* said = std::get_if<Said>(&event);
               said != nullptr && said->message.has_cut_done()) {
      OnCut(said->role, said->message.cut_done());
    }
  }
  listener_.reset();
  UpdateReplicas();
  record_->Flush(true);
  record_->WriteReport();
  return *ended_;
}

void CoordinatorImpl::Handle(const Joined& joined) {
  auto member = membership_.Register(joined.role, options_.now_ms());
  if (!member.ok()) {
    options_.log->Warning("refused {}: {}", RoleName(joined.role),
                          std::string(member.status().message()));
    joined.stream->Close(member.status());
    return;
  }
  peers_.push_back({joined.role, joined.stream});
}

void CoordinatorImpl::Handle(const Said& said) {
  Member* member = membership_.Find(said.role);
  if (member == nullptr) return;
  member->last_seen_ms = options_.now_ms();
  switch (said.message.kind_case()) {
    case RoleMessage::kRegister:
      return OnRegister(said.role, said.message.register_());
    case RoleMessage::kHeartbeat:
      member->clock = said.message.heartbeat().clock();
      return UpdateReplicas();
    case RoleMessage::kReady:
      return OnReady(*member);
    case RoleMessage::kProgress:
      member->clock = std::max(member->clock, said.message.progress().step());
      return OnProgress(said.message.progress());
    case RoleMessage::kEvaluated:
      return OnEvaluated(said.message.evaluated());
    case RoleMessage::kCutDone:
      return OnCut(said.role, said.message.cut_done());
    case RoleMessage::kHeld:
      return OnHeld(said.role, said.message.held());
    case RoleMessage::kCutAccepted:
      return OnCutAccepted(said.role);
    case RoleMessage::kFinished:
      return OnFinished(said.role);
    case RoleMessage::kFailed:
      return OnFailed(said.role, said.message.failed());
    case RoleMessage::kWarning:
      return record_->Message(
          MessageLine::Level::kWarning,
          fmt::format("{}: {}", RoleName(said.role), said.message.warning().text()));
    case RoleMessage::KIND_NOT_SET:
      return;
  }
}

void CoordinatorImpl::Handle(const Left& left) {
  Member* member = membership_.Find(left.role);
  if (member == nullptr) return;
  for (Peer& peer : peers_) peer.left |= peer.role == left.role;
  if (member->state == Member::State::kLost) return;
  member->state = Member::State::kLost;
  record_->AddReplica({KindName(left.role.kind), left.role.index, "LOST", member->pid, member->host,
                       member->device, std::string(left.status.message())});
  End(absl::UnavailableError(
      fmt::format("{} (pid {} on {}) is gone: {}", RoleName(left.role), member->pid, member->host,
                  left.status.ok() ? "it closed its link" : std::string(left.status.message()))));
}

void CoordinatorImpl::Handle(const Interrupted& interrupted) {
  ++interrupts_;
  interrupt_reason_ = interrupted.reason;
  const bool trained = placed_;
  if (interrupts_ > 1 || !trained) {
    End(absl::CancelledError(interrupted.reason));
    return;
  }
  // First of all: writing the state may wait for the disk, and meanwhile the trainers would go on.
  MasterMessage hold;
  hold.mutable_hold();
  for (const RoleId& role : Trainers()) Send(role, hold);
  record_->SetState(RunState::kCancelling,
                    interrupted.reason + ": finishing the step, writing a checkpoint");
}

void CoordinatorImpl::OnHeld(const RoleId& role, const Held& held) {
  held_[RoleName(role)] = held.started();
  if (held_.size() < Trainers().size() || target_sent_) return;
  int64_t begun = start_;
  for (const auto& [name, started] : held_) begun = std::max(begun, started);
  // One step more than anybody has begun: no slice can have reached that clock, so every server can
  // still save it.
  target_ = std::min(begun + 1, total_);
  const int64_t interval = options_.job.training().checkpoints().interval();
  if (target_ == total_ || (interval > 0 && target_ % interval == 0)) {
    // The servers know this cut from the start.
    SendTarget();
    return;
  }
  MasterMessage message;
  message.mutable_cut()->set_clock(target_);
  SendToAll(RoleId::Kind::kServer, message);
}

void CoordinatorImpl::OnCutAccepted(const RoleId& role) {
  cut_accepted_.insert(RoleName(role));
  if (static_cast<int>(cut_accepted_.size()) < options_.servers || target_sent_) return;
  SendTarget();
}

void CoordinatorImpl::SendTarget() {
  target_sent_ = true;
  MasterMessage message;
  message.mutable_set_target()->set_clock(target_);
  message.mutable_set_target()->set_final_evaluation(false);
  for (const RoleId& trainer : Trainers()) Send(trainer, message);
}

void CoordinatorImpl::OnRegister(const RoleId& role, const Register& registration) {
  Member* member = membership_.Find(role);
  member->pid = registration.pid();
  member->host = registration.host();
  member->params_address = registration.params_address();
  member->device = registration.device();
  member->isa = registration.isa();
  record_->AddReplica({KindName(role.kind), role.index, MemberStateName(member->state), member->pid,
                       member->host, member->device, ""});
  UpdateReplicas();
  if (IsTrainer(role)) SendTrainerSetup(role);
  if (!setups_sent_ && membership_.All(RoleId::Kind::kServer, Member::State::kRegistered)) {
    // A server's address must be known before its set-up: registrations may still be on their way.
    const bool addresses = std::all_of(
        membership_.members().begin(), membership_.members().end(), [](const Member& m) {
          return m.role.kind != RoleId::Kind::kServer || !m.params_address.empty();
        });
    if (addresses) SendSetups();
  }
}

void CoordinatorImpl::SendTrainerSetup(const RoleId& role) {
  MasterMessage message;
  TrainerSetup* setup = message.mutable_trainer_setup();
  *setup->mutable_job() = options_.job;
  setup->set_num_replicas(options_.num_replicas);
  for (int32_t v : LeasesOf(role)) setup->add_leases(v);
  setup->set_start_clock(start_);
  setup->set_target_clock(total_);
  Send(role, message);
}

void CoordinatorImpl::SendSetups() {
  setups_sent_ = true;
  MasterMessage message;
  ServerSetup* setup = message.mutable_server_setup();
  *setup->mutable_job() = options_.job;
  ToMessage(table_.specs(), setup->mutable_params());
  setup->set_num_servers(options_.servers);
  setup->set_num_replicas(options_.num_replicas);
  setup->set_start_clock(start_);
  if (resume_.has_value()) {
    for (const std::string& file : resume_->part_files()) setup->add_restore_files(file);
  }
  setup->set_checkpoint_dir(options_.dir.checkpoints());
  for (int64_t clock :
       CutClocks(start_, total_, options_.job.training().checkpoints().interval())) {
    setup->add_cuts(clock);
  }
  SendToAll(RoleId::Kind::kServer, message);
}

void CoordinatorImpl::OnReady(Member& member) {
  member.state = Member::State::kReady;
  record_->AddReplica({KindName(member.role.kind), member.role.index, MemberStateName(member.state),
                       member.pid, member.host, member.device, ""});
  UpdateReplicas();
  if (!placed_ && membership_.All(RoleId::Kind::kServer, Member::State::kReady) &&
      membership_.All(RoleId::Kind::kChief, Member::State::kReady) &&
      membership_.All(RoleId::Kind::kWorker, Member::State::kReady)) {
    SendPlacement();
  }
}

void CoordinatorImpl::SendPlacement() {
  placed_ = true;
  MasterMessage message;
  Placement* placement = message.mutable_placement();
  ToMessage(table_.specs(), placement->mutable_params());
  for (const Member& member : membership_.members()) {
    if (member.role.kind == RoleId::Kind::kServer) placement->add_servers(member.params_address);
  }
  last_loss_step_ = start_;
  last_loss_ms_ = options_.now_ms();
  for (const RoleId& role : Trainers()) Send(role, message);
  record_->SetState(RunState::kRunning, "training");
  running_ = true;
}

void CoordinatorImpl::OnProgress(const Progress& progress) {
  const int64_t now = options_.now_ms();
  const int64_t since =
      replica_ms_.contains(progress.replica()) ? replica_ms_[progress.replica()] : last_loss_ms_;
  replica_ms_[progress.replica()] = now;
  if (now > since) {
    record_->AddThroughput(
        {progress.replica(), progress.step(),
         1000.0 * static_cast<double>(progress.samples()) / static_cast<double>(now - since),
         progress.compute_ms(), progress.wait_ms(), progress.data_ms(), now});
  }
  const std::optional<double> loss =
      losses_.Add(progress.step(), progress.replica(), progress.loss());
  if (!loss.has_value()) return;
  double samples_per_second = 0;
  if (now > last_loss_ms_ && progress.step() > last_loss_step_) {
    samples_per_second = 1000.0 * static_cast<double>(progress.step() - last_loss_step_) *
                         options_.job.training().batch_size() * options_.num_replicas /
                         static_cast<double>(now - last_loss_ms_);
  }
  if (progress.step() == start_ + 1) {
    options_.log->Info("first step finished");
    // A rate over the first step would count the start of the loaders.
    samples_per_second = 0;
  }
  last_loss_step_ = progress.step();
  last_loss_ms_ = now;
  record_->AddLoss(
      {progress.step(), *loss, LearningRate(options_.job.training(), progress.step() - 1), now},
      samples_per_second, Lagging());
}

// In BSP nobody makes progress while one replica stands still: then no progress tells that it does.
void CoordinatorImpl::TellLagging() {
  const int64_t now = options_.now_ms();
  if (!running_ || now < lagging_told_ms_ + kLaggingIntervalMs) return;
  std::vector<LaggingReplica> lagging = Lagging();
  if (lagging.empty() && !lagging_) return;
  lagging_ = !lagging.empty();
  lagging_told_ms_ = now;
  record_->AddLagging(std::move(lagging));
}

std::vector<LaggingReplica> CoordinatorImpl::Lagging() const {
  int64_t ahead = 0;
  for (const Member& member : membership_.members()) ahead = std::max(ahead, member.clock);
  std::vector<LaggingReplica> lagging;
  constexpr int64_t kLagMs = 3000;
  for (const Member& member : membership_.members()) {
    if (!IsTrainer(member.role) || member.state != Member::State::kReady) continue;
    const int64_t silent = options_.now_ms() - member.last_seen_ms;
    if (silent > kLagMs) {
      lagging.push_back(
          {KindName(member.role.kind), member.role.index, ahead - member.clock, silent});
    }
  }
  return lagging;
}

void CoordinatorImpl::OnEvaluated(const Evaluated& evaluated) {
  std::optional<EvaluationPoint> point = evaluations_.Add(evaluated);
  if (!point.has_value()) return;
  if (point->split == "validation") {
    validation_[point->step] = point->accuracy;
  } else {
    testing_ = *point;
  }
  const int64_t step = point->step;
  record_->AddEvaluation(*std::move(point));
  AddAccuracy(step);
  FinishIfDone();
}

void CoordinatorImpl::OnCut(const RoleId& role, const CutDone& done) {
  if (const auto result = cuts_.Add(role.index, done); result.has_value()) CommitCut(*result);
  FinishIfDone();
}

void CoordinatorImpl::CommitCut(const CutGather::Result& result) {
  std::string error = result.error;
  if (error.empty()) {
    Manifest manifest;
    manifest.step = result.clock;
    manifest.created_ms = options_.now_ms();
    manifest.exact = record_->state().exact;
    manifest.identity = identity_;
    for (const std::string& file : result.files) {
      std::error_code ignored;
      manifest.parts.push_back({std::filesystem::path(file).filename(),
                                static_cast<int64_t>(std::filesystem::file_size(file, ignored))});
    }
    if (absl::Status status = CommitCheckpoint(options_.dir, manifest); !status.ok()) {
      error = std::string(status.message());
    } else {
      manifest_ = std::move(manifest);
    }
  }
  if (!error.empty()) {
    record_->Message(
        MessageLine::Level::kWarning,
        fmt::format("the checkpoint of step {} was not written: {}", result.clock, error));
    record_->AddEvent(result.clock, "checkpoint failed: " + error);
    if (result.clock == target_) final_cut_error_ = error;
    return;
  }
  committed_ = result.clock;
  options_.log->Info("checkpoint of step {} committed", result.clock);
  CheckpointSummary summary;
  summary.step = result.clock;
  summary.path = fmt::format("checkpoints/step-{}", result.clock);
  record_->state().last_checkpoint = summary;
  AddAccuracy(result.clock);
  const int keep = options_.job.training().checkpoints().keep();
  if (auto removed = PruneCheckpoints(options_.dir, keep > 0 ? keep : 5); !removed.ok()) {
    options_.log->Warning("old checkpoints stay: {}", std::string(removed.status().message()));
  }
}

// The evaluation of a checkpoint's step may end before the checkpoint is committed, or after.
void CoordinatorImpl::AddAccuracy(int64_t step) {
  const auto found = validation_.find(step);
  if (found == validation_.end() || committed_ != step || manifest_.step != step) return;
  manifest_.metrics["validation_accuracy"] = found->second;
  if (absl::Status status = CommitCheckpoint(options_.dir, manifest_); !status.ok()) {
    options_.log->Warning("the checkpoint of step {} does not tell its accuracy: {}", step,
                          std::string(status.message()));
  }
  JobState& state = record_->state();
  if (!state.last_checkpoint.has_value()) return;
  state.last_checkpoint->validation_accuracy = found->second;
  const auto& best = state.best_checkpoint;
  if (!best.has_value() || found->second >= best->validation_accuracy.value_or(0)) {
    state.best_checkpoint = state.last_checkpoint;
  }
}

void CoordinatorImpl::OnFinished(const RoleId& role) {
  Member* member = membership_.Find(role);
  member->state = Member::State::kFinished;
  member->clock = target_;
  UpdateReplicas();
  FinishIfDone();
}

void CoordinatorImpl::OnFailed(const RoleId& role, const Failed& failed) {
  End(absl::Status(static_cast<absl::StatusCode>(failed.code()),
                   fmt::format("{}: {}", RoleName(role), FlattenLines(failed.text()))));
}

void CoordinatorImpl::FinishIfDone() {
  if (ended_.has_value() || !running_ ||
      !membership_.All(RoleId::Kind::kChief, Member::State::kFinished) ||
      !membership_.All(RoleId::Kind::kWorker, Member::State::kFinished)) {
    return;
  }
  if (committed_ != target_ && final_cut_error_.empty()) return;
  if (evaluations_.pending()) return;
  if (!final_cut_error_.empty()) {
    End(absl::ResourceExhaustedError("the last checkpoint could not be written: " +
                                     final_cut_error_));
    return;
  }
  if (interrupts_ > 0) {
    End(absl::CancelledError(interrupt_reason_));
    return;
  }
  ResultLine result;
  result.step = target_;
  result.checkpoint = options_.dir.checkpoint(target_);
  result.validation_accuracy = record_->state().metrics.validation_accuracy;
  result.test_accuracy = record_->state().metrics.test_accuracy;
  record_->state().step = target_;
  if (absl::Status status = ExportModel(&result); absl::IsUnimplemented(status)) {
    options_.log->Info("no model.onnx: {}", std::string(status.message()));
  } else if (!status.ok()) {
    End(absl::Status(status.code(),
                     "the model was trained but not exported: " + std::string(status.message())));
    return;
  }
  if (const EvaluationPoint& last = testing_; !last.confusion.empty()) {
    result.confusion = FormatConfusion(last.confusion, module_->labels());
  }
  record_->SetResult(std::move(result));
  End(absl::OkStatus());
}

void CoordinatorImpl::End(absl::Status status) {
  if (ended_.has_value()) return;
  UpdateReplicas();
  if (status.ok()) {
    record_->SetState(RunState::kSucceeded, "");
  } else {
    record_->AddEvent(record_->state().step, std::string(status.message()));
    record_->SetState(EndedBy(status, /*training_began=*/running_));
  }
  StopRoles(status.ok() ? "" : std::string(status.message()));
  ended_ = std::move(status);
}

void CoordinatorImpl::StopRoles(const std::string& reason) {
  MasterMessage message;
  message.mutable_stop()->set_reason(reason);
  for (const Peer& peer : peers_) (void)peer.stream->Send(PackControl(message));
}

void CoordinatorImpl::Send(const RoleId& role, const MasterMessage& message) {
  for (const Peer& peer : peers_) {
    // A closed stream is reported by OnClosed.
    if (peer.role == role) (void)peer.stream->Send(PackControl(message));
  }
}

void CoordinatorImpl::SendToAll(RoleId::Kind kind, const MasterMessage& message) {
  for (const Peer& peer : peers_) {
    if (peer.role.kind == kind) (void)peer.stream->Send(PackControl(message));
  }
}

std::vector<RoleId> CoordinatorImpl::Trainers() const {
  std::vector<RoleId> trainers;
  for (const Member& member : membership_.members()) {
    if (IsTrainer(member.role)) trainers.push_back(member.role);
  }
  return trainers;
}

void CoordinatorImpl::UpdateReplicas() {
  const bool succeeded = ended_.has_value() && ended_->ok();
  std::vector<ReplicaState> replicas;
  ReplicaState master;
  master.role = "master";
  master.pids = {options_.pid};
  master.state = ended_.has_value() ? "FINISHED" : "READY";
  master.last_seen_ms = options_.now_ms();
  master.host = options_.host;
  replicas.push_back(std::move(master));
  for (const Member& member : membership_.members()) {
    const bool chief = member.role.kind == RoleId::Kind::kChief;
    // A server in this process is part of the master, which has its entry.
    if (member.role.kind == RoleId::Kind::kServer && options_.hosts_server) continue;
    // The chief trains on the master's machine and stands in its entry.
    ReplicaState& replica = chief ? replicas.front() : replicas.emplace_back();
    if (!chief) {
      replica.role = KindName(member.role.kind);
      replica.index = member.role.index;
      replica.state = succeeded ? "FINISHED" : MemberStateName(member.state);
      replica.host = member.host;
      replica.last_seen_ms = member.last_seen_ms;
    }
    if (member.pid != 0 && (!chief || member.pid != options_.pid)) {
      replica.pids.push_back(member.pid);
    }
    replica.device = member.device;
    if (IsTrainer(member.role)) {
      replica.leases = LeasesOf(member.role);
      replica.step = member.clock;
    }
  }
  record_->state().replicas = std::move(replicas);
}

absl::Status CoordinatorImpl::ExportModel(ResultLine* result) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, NewestCheckpoint(options_.dir, nullptr));
  ASSIGN_OR_RETURN(const std::vector<float> weights,
                   ps::ReadFullParams(checkpoint.part_files(), table_));
  worker::ModelOrigin origin{identity_.module, {}, checkpoint.step};
  for (const auto& [flag, value] : identity_.module_flags) {
    origin.flags[flag.substr(std::min(flag.find_first_not_of('-'), flag.size()))] = value;
  }
  ASSIGN_OR_RETURN(result->model_path, worker::ExportModel(*module_, table_, weights,
                                                           options_.dir.export_dir(), origin));
  record_->state().model_path = "export/model.onnx";
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Make(CoordinatorOptions options) {
  CHECK_GE(options.chief + options.workers, 1);
  auto coordinator = std::make_unique<CoordinatorImpl>(std::move(options));
  RETURN_IF_ERROR(coordinator->Start());
  return coordinator;
}

}  // namespace muster::master
