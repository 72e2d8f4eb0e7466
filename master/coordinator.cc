#include "master/coordinator.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <utility>
#include <variant>

#include "master/checkpoint_commits.h"
#include "master/data_agreement.h"
#include "master/early_stop.h"
#include "master/event_queue.h"
#include "master/gather.h"
#include "master/lag_watch.h"
#include "master/lease_moves.h"
#include "master/membership.h"
#include "master/replica_table.h"
#include "master/resume.h"
#include "master/role_links.h"
#include "master/role_losses.h"
#include "master/run_record.h"
#include "master/run_result.h"
#include "master/run_start.h"
#include "master/setup_message.h"
#include "master/trace_parts.h"
#include "master/trainer_numbers.h"
#include "master/training_progress.h"
#include "master/waiting_roles.h"
#include "ps/residuals.h"
#include "telemetry/check.h"

namespace muster::master {
namespace {

constexpr int64_t kStartTimeoutMs = 60'000;
constexpr int64_t kSilenceMs = 30'000;
// A look at the clock that comes so late: this process did not run, or the clock was set.
constexpr int64_t kStoodStillMs = 10'000;
constexpr int64_t kStopGraceMs = 5'000;
constexpr auto kTick = std::chrono::milliseconds(200);

int64_t StartTimeoutMs(const Job& job) {
  const int64_t seconds = job.cluster().start_timeout_s();
  return seconds > 0 ? seconds * 1000 : kStartTimeoutMs;
}

std::string FlattenLines(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

RunRecord::Options RecordOptions(const CoordinatorOptions& options, const RunStart& run) {
  RunRecord::Options record;
  record.dir = options.dir;
  record.log = options.log;
  record.on_status = options.on_status;
  record.now_ms = options.now_ms;
  record.start_step = run.start;
  record.labels = run.module->labels();
  record.report.title = options.job.job_id();
  record.report.plan = options.plan;
  record.report.settings = options.settings;
  record.report.substitutions = options.substitutions;
  return record;
}

class CoordinatorImpl : public Coordinator {
 public:
  CoordinatorImpl(CoordinatorOptions options, RunStart run);

  absl::Status Listen();
  const std::string& address() const override { return listener_->address(); }
  absl::Status Run() override;
  void Interrupt(const std::string& reason) override { queue_->Put(Interrupted{reason}); }
  int64_t lease_moves() const override { return lease_moves_; }
  void Fail(absl::Status status) override { queue_->Put(Broken{std::move(status)}); }

 private:
  void Handle(const RoleJoined& joined);
  void Handle(const RoleSaid& said);
  void Handle(const RoleLeft& left);
  void Handle(const Interrupted& interrupted);
  void Handle(const Broken& broken) { End(broken.status); }
  void Handle(const Tick&) {}
  // Takes it in, in a lost one's place perhaps, or refuses it.
  void Admit(const RoleJoined& joined);
  // Those who waited until it was known what became of the ones before them.
  void AdmitWaiting();

  void OnRegister(Member& member, const Register& registration);
  void OnReady(Member& member, const Ready& ready);
  void OnProgress(const Progress& progress);
  void OnEvaluated(const Evaluated& evaluated);
  void OnCut(const RoleId& role, const CutDone& done);
  void OnFinished(Member& member);
  void OnFailed(const Member& member, const Failed& failed);
  void OnWarning(const RoleId& role, const Warning& warning);
  void OnLeave(const Member& member);
  void OnPaused(const Member& member);

  void SendSetupsOnce();
  void BeginTraining();
  void NoteDevices();
  // Does what lease_moves.h says is to be done.
  void MoveLeases();
  // Whoever has not come in time, or says nothing any more.
  void CheckTime();
  // Trainers that failed though no server did begin anew, or are done without.
  void SettleFailures();
  // A role was lost: leases move, or the job ends for it.
  void GoOn(const absl::Status& lost);
  // Begins to end an interrupted run, unless leases have to find their trainers first.
  void HoldTrainers();
  void StopEarly(EarlyStop::Action action);
  void FinishIfDone();
  void End(absl::Status status);
  void AwaitRoles();
  void JoinTraces();
  void UpdateReplicas();
  RoleId RoleOf(int trainer) const { return numbers_.RoleOf(trainer); }
  void SendToThoseWhoTrain(const MasterMessage& message) const;
  SetTarget Target() const;

  const CoordinatorOptions options_;
  const RunStart run_;
  const TrainerNumbers numbers_{options_.chief, options_.workers};
  const std::shared_ptr<EventQueue> queue_ = std::make_shared<EventQueue>();
  FileService files_{options_.dir.root()};
  std::unique_ptr<rpc::Listener> listener_;

  // All below is owned by Run's thread.
  Membership membership_;
  RoleLinks links_;
  WaitingRoles waiting_;
  RunRecord record_;
  TrainingProgress progress_;
  LagWatch lag_watch_;
  EvaluationGather evaluations_;
  CheckpointCommits checkpoints_;
  LeaseMoves moves_;
  RoleLosses losses_;
  DataAgreement data_{run_};
  std::optional<EarlyStop> early_stop_;
  int64_t target_;  // clock at which this run ends
  bool setups_sent_ = false, training_ = false;
  std::optional<std::string> interrupted_;  // why
  EvaluationPoint testing_;                 // the last one
  std::optional<absl::Status> ended_;
  int64_t looked_ms_ = 0;  // at the clock

  std::atomic<int64_t> lease_moves_ = 0;
};

CoordinatorImpl::CoordinatorImpl(CoordinatorOptions options, RunStart run)
    : options_(std::move(options)),
      run_(std::move(run)),
      membership_(options_.chief, options_.workers, options_.servers, StartTimeoutMs(options_.job),
                  kSilenceMs, options_.now_ms()),
      record_(RecordOptions(options_, run_),
              InitialState(options_.job, options_.dir, run_, options_.now_ms())),
      progress_(options_.job.training(), options_.num_replicas, run_.start),
      checkpoints_({.dir = options_.dir,
                    .identity = run_.identity,
                    .servers = options_.servers,
                    .replicas = ps::HasResiduals(run_.table) ? options_.num_replicas : 0,
                    .keep = options_.job.training().checkpoints().keep(),
                    .resumed_from = run_.resume.has_value() ? run_.start : -1,
                    .log = options_.log,
                    .record = &record_,
                    .now_ms = options_.now_ms}),
      moves_(options_.num_replicas, numbers_.count()),
      losses_({.membership = &membership_,
               .links = &links_,
               .moves = &moves_,
               .record = &record_,
               .numbers = numbers_,
               .has_residuals = ps::HasResiduals(run_.table)}),
      target_(run_.total) {
  record_.state().dollars_per_hour = options_.dollars_per_hour;
  for (int t = 0; t < numbers_.count(); ++t) membership_.Find(RoleOf(t))->leases = moves_.home(t);
}

absl::Status CoordinatorImpl::Listen() {
  ASSIGN_OR_RETURN(listener_, ListenForRoles(*options_.transport, options_.listen_address,
                                             options_.self, queue_, files_));
  options_.on_status(ListeningLine{listener_->address()});
  for (const std::string& warning : run_.warnings) {
    record_.Message(MessageLine::Level::kWarning, warning);
  }
  return absl::OkStatus();
}

absl::Status CoordinatorImpl::Run() {
  if (options_.job.training().has_trace()) RemoveTraceParts(options_.dir.trace_parts());
  UpdateReplicas();
  record_.SetState(RunState::kPreparing, "waiting for the roles");
  if (run_.resume.has_value()) {
    record_.Message(MessageLine::Level::kInfo,
                    fmt::format("resuming from the checkpoint of step {}", run_.start));
    record_.AddEvent(run_.start, fmt::format("resumed from step {}", run_.start));
  }
  looked_ms_ = options_.now_ms();
  while (!ended_.has_value()) {
    const Event event = queue_->Take(kTick);
    std::visit([this](const auto& what) { Handle(what); }, event);
    if (ended_.has_value()) break;
    CheckTime();
    AdmitWaiting();
    SettleFailures();
    if (ended_.has_value()) break;
    if (auto lagging =
            training_ ? lag_watch_.Look(membership_.members(), looked_ms_) : std::nullopt) {
      record_.AddLagging(*std::move(lagging));
    }
    record_.Flush(false);
  }
  AwaitRoles();
  listener_.reset();
  JoinTraces();
  UpdateReplicas();
  record_.Flush(true);
  record_.WriteReport();
  return *ended_;
}

// The roles have been told; they close their streams when they are done. Checkpoints that were
// under way are still committed.
void CoordinatorImpl::AwaitRoles() {
  const int64_t deadline = options_.now_ms() + kStopGraceMs;
  while (!links_.all_left() && options_.now_ms() < deadline) {
    const Event event = queue_->Take(kTick);
    if (const auto* left = std::get_if<RoleLeft>(&event)) {
      if (links_.Has(left->role, left->link)) links_.MarkLeft(left->role);
    } else if (const auto* said = std::get_if<RoleSaid>(&event);
               said != nullptr && said->message.has_cut_done()) {
      OnCut(said->role, said->message.cut_done());
    } else if (said != nullptr && said->message.has_warning()) {
      OnWarning(said->role, said->message.warning());
    }
  }
}

void CoordinatorImpl::JoinTraces() {
  if (!options_.job.training().has_trace()) return;
  std::vector<std::string> warnings;
  const absl::Status joined =
      JoinTraceParts(options_.dir.trace_parts(), options_.dir.trace_json(), &warnings);
  if (!joined.ok()) warnings.push_back(std::string(joined.message()));
  for (const std::string& warning : warnings) {
    record_.Message(MessageLine::Level::kWarning, "the trace is incomplete: " + warning);
  }
}

void CoordinatorImpl::CheckTime() {
  const int64_t now = options_.now_ms(), passed = now - std::exchange(looked_ms_, now);
  if (passed > kStoodStillMs || passed < 0) {
    membership_.NoteDeaf(std::max<int64_t>(0, passed), now);
  }
  if (const absl::Status status = membership_.CheckTime(now); !status.ok()) return End(status);
  while (!ended_.has_value()) {
    const Member* silent = membership_.FindSilent(now);
    if (silent == nullptr) return;
    GoOn(losses_.OnSilent(*membership_.Find(silent->role), now));
  }
}

void CoordinatorImpl::SettleFailures() {
  while (!ended_.has_value()) {
    const absl::StatusOr<bool> settled = losses_.SettleFailure(options_.now_ms());
    if (settled.ok() && !*settled) return;
    GoOn(settled.status());
  }
}

void CoordinatorImpl::GoOn(const absl::Status& lost) {
  if (!lost.ok()) return End(lost);
  MoveLeases();
}

void CoordinatorImpl::Handle(const RoleJoined& joined) {
  const Member* there = membership_.Find(joined.role);
  if (there != nullptr && IsThere(*there) && losses_.WhyNeeded(joined.role).empty()) {
    return waiting_.Add(joined, options_.now_ms());
  }
  Admit(joined);
}

void CoordinatorImpl::AdmitWaiting() {
  for (const WaitingRoles::Waiting& one : waiting_.Take(membership_.members(), options_.now_ms())) {
    if (ended_.has_value()) return;
    Admit(one.joined);
    for (const RoleSaid& said : one.said) Handle(said);
  }
}

void CoordinatorImpl::Admit(const RoleJoined& joined) {
  Member* there = membership_.Find(joined.role);
  if (there != nullptr && IsMissed(*there, options_.now_ms()) &&
      losses_.WhyNeeded(joined.role).empty()) {
    GoOn(losses_.OnSilent(*there, options_.now_ms()));
  }
  const absl::Status refused = membership_.Register(joined.role, options_.now_ms()).status();
  if (!refused.ok()) {
    options_.log->Warning("refused {}: {}", RoleName(joined.role), std::string(refused.message()));
    joined.stream->Close(refused);
    return;
  }
  links_.Add(joined.role, joined.stream, joined.link);
}

void CoordinatorImpl::Handle(const RoleSaid& said) {
  if (waiting_.Keep(said)) return;
  Member* member = membership_.Find(said.role);
  if (member == nullptr || IsGone(*member) || !links_.Has(said.role, said.link)) return;
  member->last_seen_ms = options_.now_ms();
  switch (said.message.kind_case()) {
    case RoleMessage::kRegister:
      return OnRegister(*member, said.message.register_());
    case RoleMessage::kHeartbeat:
      member->clock = said.message.heartbeat().clock();
      return UpdateReplicas();
    case RoleMessage::kReady:
      return OnReady(*member, said.message.ready());
    case RoleMessage::kProgress:
      member->clock = std::max(member->clock, said.message.progress().step());
      return OnProgress(said.message.progress());
    case RoleMessage::kEvaluated:
      return OnEvaluated(said.message.evaluated());
    case RoleMessage::kCutDone:
      return OnCut(said.role, said.message.cut_done());
    case RoleMessage::kHeld:
      if (early_stop_) StopEarly(early_stop_->OnHeld(said.role, said.message.held().started()));
      return;
    case RoleMessage::kCutAccepted:
      if (early_stop_) StopEarly(early_stop_->OnCutAccepted(said.role));
      return;
    case RoleMessage::kLeave:
      return OnLeave(*member);
    case RoleMessage::kPaused:
      return OnPaused(*member);
    case RoleMessage::kFinished:
      return OnFinished(*member);
    case RoleMessage::kFailed:
      return OnFailed(*member, said.message.failed());
    case RoleMessage::kWarning:
      return OnWarning(said.role, said.message.warning());
    case RoleMessage::KIND_NOT_SET:
      return;
  }
}

void CoordinatorImpl::Handle(const RoleLeft& left) {
  if (waiting_.Drop(left)) return;
  Member* member = membership_.Find(left.role);
  if (member == nullptr || !links_.Has(left.role, left.link)) return;
  links_.MarkLeft(left.role);
  if (IsGone(*member)) return;
  GoOn(losses_.OnGone(*member, left.status));
}

void CoordinatorImpl::OnLeave(const Member& member) {
  if (losses_.OnLeave(member, /*ending=*/interrupted_.has_value())) MoveLeases();
}

void CoordinatorImpl::OnPaused(const Member& member) {
  if (!IsTrainer(member.role)) return;
  moves_.OnPaused(numbers_.Of(member.role));
  MoveLeases();
}

void CoordinatorImpl::MoveLeases() {
  const LeaseMoves::Actions actions = moves_.Take();
  MasterMessage pause, stop;
  pause.mutable_pause();
  stop.mutable_stop();
  for (const int t : actions.pause) links_.Send(RoleOf(t), pause);
  for (const int t : actions.begin) {
    membership_.Find(RoleOf(t))->state = Member::State::kReady;
    links_.Send(RoleOf(t),
                PlacementMessage(run_, membership_.members(), moves_.leases(t), Target()));
  }
  for (const int t : actions.let_go) {
    Member& member = *membership_.Find(RoleOf(t));
    member.state = Member::State::kLeft;
    record_.AddReplica(member);  // before its process ends
    links_.Send(member.role, stop);
  }
  lease_moves_ = moves_.moves();
  for (int t = 0; t < numbers_.count(); ++t) membership_.Find(RoleOf(t))->leases = moves_.leases(t);
  UpdateReplicas();
  HoldTrainers();
}

SetTarget CoordinatorImpl::Target() const {
  SetTarget target;
  target.set_clock(target_);
  target.set_final_evaluation(!early_stop_ || !early_stop_->target());
  return target;
}

void CoordinatorImpl::SendToThoseWhoTrain(const MasterMessage& message) const {
  for (int t = 0; t < numbers_.count(); ++t) {
    if (!moves_.leases(t).empty()) links_.Send(RoleOf(t), message);
  }
}

void CoordinatorImpl::Handle(const Interrupted& interrupted) {
  const bool again = interrupted_.has_value();
  interrupted_ = interrupted.reason;
  if (again || !training_) return End(absl::CancelledError(interrupted.reason));
  // First of all: writing the state may wait for the disk, and meanwhile the trainers would go on.
  HoldTrainers();
  record_.SetState(RunState::kCancelling,
                   interrupted.reason + ": finishing the step, writing a checkpoint");
}

void CoordinatorImpl::HoldTrainers() {
  if (!interrupted_ || !moves_.settled() || (early_stop_ && early_stop_->target())) return;
  int training = 0;
  for (int t = 0; t < numbers_.count(); ++t) training += moves_.leases(t).empty() ? 0 : 1;
  early_stop_.emplace(
      EarlyStop::Run{.trainers = training,
                     .servers = options_.servers,
                     .start = run_.start,
                     .total = run_.total,
                     .cut_interval = options_.job.training().checkpoints().interval()});
  MasterMessage hold;
  hold.mutable_hold();
  SendToThoseWhoTrain(hold);
}

void CoordinatorImpl::StopEarly(EarlyStop::Action action) {
  if (action == EarlyStop::Action::kWait) return;
  target_ = *early_stop_->target();
  MasterMessage message;
  if (action == EarlyStop::Action::kCut) {
    message.mutable_cut()->set_clock(target_);
    links_.SendToServers(message);
  } else {
    *message.mutable_set_target() = Target();
    SendToThoseWhoTrain(message);
  }
}

void CoordinatorImpl::OnRegister(Member& member, const Register& registration) {
  member.pid = registration.pid();
  member.host = registration.host();
  member.params_address = registration.params_address();
  member.metrics_address = registration.metrics_address();
  member.device = registration.device();
  member.device_kind = registration.device_kind();
  record_.AddReplica(member);
  UpdateReplicas();
  if (IsTrainer(member.role)) {
    links_.Send(member.role,
                TrainerSetupMessage(options_.job, run_, options_.num_replicas,
                                    moves_.home(numbers_.Of(member.role)), options_.dir));
  }
  SendSetupsOnce();
}

// Servers are set up together: a server that has joined may not have told its address yet.
void CoordinatorImpl::SendSetupsOnce() {
  const auto& members = membership_.members();
  if (setups_sent_ || !std::all_of(members.begin(), members.end(), [](const Member& member) {
        return IsTrainer(member.role) || !member.params_address.empty();
      })) {
    return;
  }
  setups_sent_ = true;
  links_.SendToServers(ServerSetupMessage(options_.job, run_, options_.num_replicas,
                                          options_.servers, options_.dir));
}

void CoordinatorImpl::OnReady(Member& member, const Ready& ready) {
  if (member.state != Member::State::kRegistered) return;
  const absl::Status data = data_.Check(member.role, ready.data_fingerprint());
  checkpoints_.SetDataFingerprint(data_.fingerprint());
  if (!data.ok()) return GoOn(losses_.OnUnfit(member, data));
  member.state = Member::State::kReady;
  record_.AddReplica(member);
  UpdateReplicas();
  // One that comes while the job trains.
  if (training_ && !interrupted_ && IsTrainer(member.role)) {
    moves_.Join(numbers_.Of(member.role));
    losses_.TellOfTrainer(member.role, "has joined");
    MoveLeases();
  }
  if (!training_ && membership_.All(RoleId::Kind::kServer, Member::State::kReady) &&
      membership_.AllTrainers(Member::State::kReady)) {
    BeginTraining();
  }
}

// Checkpoints say what made them; whoever resumes elsewhere is told what that changes.
void CoordinatorImpl::NoteDevices() {
  RunIdentity identity = run_.identity;
  identity.device = DevicesOf(membership_.members());
  checkpoints_.SetDevice(identity.device);
  for (const std::string& warning : NewWarnings(run_, identity)) {
    record_.Message(MessageLine::Level::kWarning, warning);
  }
}

void CoordinatorImpl::BeginTraining() {
  training_ = true;
  losses_.BeginTraining();
  NoteDevices();
  progress_.Begin(options_.now_ms());
  for (int t = 0; t < numbers_.count(); ++t) moves_.Join(t);
  MoveLeases();
  record_.SetState(RunState::kRunning, "training");
}

void CoordinatorImpl::OnProgress(const Progress& progress) {
  const int64_t now = options_.now_ms();
  if (const auto throughput = progress_.Throughput(progress, now)) {
    record_.AddThroughput(*throughput);
  }
  const auto point = progress_.Loss(progress, now);
  if (!point.has_value()) return;
  if (point->loss.step == run_.start + 1) options_.log->Info("first step finished");
  record_.AddLoss(point->loss, point->samples_per_second, Lagging(membership_.members(), now));
}

void CoordinatorImpl::OnEvaluated(const Evaluated& evaluated) {
  std::optional<EvaluationPoint> point = evaluations_.Add(evaluated);
  if (!point.has_value()) return;
  record_.AddEvaluation(*point);
  if (point->split == "validation") {
    checkpoints_.OnAccuracy(point->step, point->accuracy);
  } else {
    testing_ = *std::move(point);
  }
  FinishIfDone();
}

void CoordinatorImpl::OnCut(const RoleId& role, const CutDone& done) {
  if (IsTrainer(role) != done.has_replica()) return;
  checkpoints_.OnCut(role.index, done);
  FinishIfDone();
}

void CoordinatorImpl::OnFinished(Member& member) {
  member.state = Member::State::kFinished;
  member.clock = target_;
  UpdateReplicas();
  FinishIfDone();
}

void CoordinatorImpl::OnFailed(const Member& member, const Failed& failed) {
  const absl::Status status(static_cast<absl::StatusCode>(failed.code()),
                            FlattenLines(failed.text()));
  if (!training_ || !IsTrainer(member.role) || !absl::IsUnavailable(status)) {
    return End(Named(member.role, status));
  }
  losses_.OnFailed(member, status, failed.stays(), options_.now_ms());
}

void CoordinatorImpl::OnWarning(const RoleId& role, const Warning& warning) {
  record_.Message(MessageLine::Level::kWarning,
                  fmt::format("{}: {}", RoleName(role), warning.text()));
}

void CoordinatorImpl::FinishIfDone() {
  if (ended_.has_value() || !training_ || !moves_.settled()) return;
  for (int t = 0; t < numbers_.count(); ++t) {
    const bool trains = !moves_.leases(t).empty();
    if (trains && membership_.Find(RoleOf(t))->state != Member::State::kFinished) return;
  }
  const std::optional<absl::Status> checkpoint = checkpoints_.Outcome(target_);
  if (!checkpoint.has_value() || evaluations_.pending()) return;
  if (!checkpoint->ok()) {
    return End(absl::Status(checkpoint->code(), "the last checkpoint could not be written: " +
                                                    std::string(checkpoint->message())));
  }
  JobState& state = record_.state();
  state.step = target_;
  if (interrupted_.has_value()) return End(absl::CancelledError(*interrupted_));
  auto result = MakeResult(options_.dir, run_, state.metrics, testing_, *options_.log);
  if (!result.ok()) return End(result.status());
  if (!result->model_path.empty()) state.model_path = "export/model.onnx";
  record_.SetResult(*std::move(result));
  End(absl::OkStatus());
}

void CoordinatorImpl::End(absl::Status status) {
  if (ended_.has_value()) return;
  UpdateReplicas();
  if (status.ok()) {
    record_.SetState(RunState::kSucceeded, "");
  } else {
    record_.AddEvent(record_.state().step, std::string(status.message()));
    record_.SetState(EndedBy(status, /*training_began=*/training_));
  }
  MasterMessage stop;
  stop.mutable_stop()->set_reason(status.ok() ? "" : std::string(status.message()));
  links_.SendToAll(stop);
  ended_ = std::move(status);
}

void CoordinatorImpl::UpdateReplicas() {
  record_.state().replicas =
      ReplicaTable({options_.host, options_.pid, options_.hosts_server, options_.metrics_address},
                   membership_.members(), ended_, options_.now_ms());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Make(CoordinatorOptions options) {
  CHECK_GE(options.chief + options.workers, 1);
  ASSIGN_OR_RETURN(auto module, options.make_module(options.job));
  ASSIGN_OR_RETURN(RunStart run, FindRunStart(options.job, options.dir, options.num_replicas,
                                              options.self.build_id, std::move(module)));
  auto coordinator = std::make_unique<CoordinatorImpl>(std::move(options), std::move(run));
  RETURN_IF_ERROR(coordinator->Listen());
  return coordinator;
}

}  // namespace muster::master
