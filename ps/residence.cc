#include "ps/residence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ps/gradient_error.h"
#include "ps/slice_values.h"
#include "telemetry/check.h"

namespace muster::ps {

struct Residence::Served {
  Served(const ParamTable& t, const Partition& p, const ConsistencyPolicy& c, const Optimizer& o,
         Schedule s, ServerOptions given, ServerEvents e)
      : table(t),
        partition(p),
        policy(c),
        optimizer(o),
        schedule(std::move(s)),
        options(std::move(given)),
        events(std::move(e)),
        trace(options.trace, "shard 0"),
        cuts(table, whole, optimizer.slot_names(), options.index, events) {}

  const ParamTable& table;
  const Partition& partition;  // names slices as shards on the host do
  const ConsistencyPolicy& policy;
  const Optimizer& optimizer;
  const Schedule schedule;
  const ServerOptions options;
  const ServerEvents events;
  const Partition whole = {{WholeArena(table)}, {0}, {}, 1};  // what cuts are made of
  const TraceThread trace;
  CutWriter cuts;
};

class Residence::ServerSide final : public Server {
 public:
  ServerSide(std::shared_ptr<Residence> residence, const ParamTable& table)
      : residence_(std::move(residence)), table_(table) {}
  ~ServerSide() override { residence_->Close(); }

  absl::Status Initialize() override { return residence_->Load(nullptr); }
  absl::Status Restore(const std::vector<std::string>& files, int64_t clock) override {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::OpenAt(files, table_, clock));
    return residence_->Load(&checkpoint);
  }
  rpc::Acceptor acceptor() override {
    return [device = residence_->device()](const rpc::Hello&, std::shared_ptr<rpc::Stream>)
               -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
      return absl::FailedPreconditionError(
          fmt::format("the parameters live on {}, with the trainer of that process", device));
    };
  }
  void CutAt(int64_t clock, const std::string& directory) override {
    residence_->CutAt(clock, directory);
  }
  ServerStats stats() const override { return residence_->counters_.Read(); }

 private:
  const std::shared_ptr<Residence> residence_;
  const ParamTable& table_;
};

class Residence::ClientSide final : public Client {
 public:
  ClientSide(std::shared_ptr<Residence> residence, std::unique_ptr<DeviceValues> values)
      : residence_(std::move(residence)), values_(std::move(values)) {}
  ~ClientSide() override { residence_->Detach(); }

  void Push(int32_t replica, int64_t step, ParamId /*param*/, std::span<const float> grad,
            int /*priority*/, bool /*want_params*/) override {
    CHECK_EQ(replica, 0);
    CHECK_EQ(step, residence_->clock());
    CHECK(grad.data() >= values_->gradients().data());
    if (++pushed_ == values_->params()) values_->AskFinite();
  }
  void Flush() override {
    if (pushed_ < values_->params()) return;
    pushed_ = 0;
    Fail(residence_->Step());
  }
  void Pull(int32_t /*replica*/, int64_t /*clock*/, int64_t /*version*/) override {}
  void PullAtClock(int32_t /*replica*/, int64_t /*clock*/) override {}
  absl::StatusOr<int64_t> Clock(int32_t /*replica*/) override { return residence_->clock(); }
  absl::Status Wait(int64_t clock) override {
    Flush();
    {
      MutexLock lock(mu_);
      RETURN_IF_ERROR(error_);
    }
    reached_ = residence_->clock();
    if (reached_ == clock) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("the parameters of clock {} were asked for at clock {}, with {} of {} "
                    "parameters' gradients pushed",
                    clock, reached_, pushed_, values_->params()));
  }
  int64_t reached() const override { return reached_; }
  int64_t missed(int32_t /*replica*/) const override { return 0; }
  double last_pull_ms() const override { return 0; }
  absl::StatusOr<std::vector<SavedSlice>> Residuals(int32_t /*replica*/) override {
    return std::vector<SavedSlice>();
  }
  absl::Status RestoreResiduals(int32_t /*replica*/, const Checkpoint& /*saved*/) override {
    return absl::OkStatus();
  }
  std::optional<OnDevice> on_device() override {
    return OnDevice{values_->weights(), values_->gradients()};
  }
  void Cancel(absl::Status status) override { Fail(std::move(status)); }

  // Memory of the host that nothing would be read from, or put into.
  std::shared_ptr<float[]> AllocateGradients() override { return NotHere<float[]>(); }
  ReplicaEncodings LeaveEncodingTo(ReplicaEncoder& /*to*/, int32_t /*replica*/) override {
    NotHere<float>();
    return {};
  }
  void SetArena(std::span<float> /*arena*/) override { NotHere<float>(); }
  absl::StatusOr<std::shared_ptr<const WeightArenas>> AllocateWeights() override {
    return NotHere<const WeightArenas>();
  }

 private:
  template <class T>
  static std::shared_ptr<T> NotHere() {
    CHECK(false && "the parameters live on a device");
    return nullptr;
  }
  // The first error stays.
  void Fail(absl::Status status) {
    MutexLock lock(mu_);
    if (error_.ok()) error_ = std::move(status);
  }

  const std::shared_ptr<Residence> residence_;
  const std::unique_ptr<DeviceValues> values_;
  size_t pushed_ = 0;  // of this step
  int64_t reached_ = 0;
  Mutex mu_;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

Residence::Residence(std::string device) : device_(std::move(device)) {}
Residence::~Residence() = default;

std::unique_ptr<Server> Residence::MakeServer(std::shared_ptr<Residence> residence,
                                              const ParamTable& table, const Partition& partition,
                                              const ConsistencyPolicy& policy,
                                              const Optimizer& optimizer, Schedule schedule,
                                              ServerOptions options, ServerEvents events) {
  CHECK(policy.exact() && policy.backups() == 0 && !optimizer.has_trust_ratio());
  CHECK(options.num_replicas == 1 && std::isinf(options.clip_norm));
  for (const ParamSpec& spec : table.specs()) {
    CHECK(spec.codec == nullptr && spec.pull_codec == nullptr);
  }
  // Else it would hold itself.
  options.residence = nullptr;
  {
    MutexLock lock(residence->mu_);
    CHECK(residence->served_ == nullptr);
    residence->served_ =
        std::make_unique<Served>(table, partition, policy, optimizer, std::move(schedule),
                                 std::move(options), std::move(events));
  }
  return std::make_unique<ServerSide>(std::move(residence), table);
}

absl::StatusOr<std::unique_ptr<Client>> Residence::Connect(std::shared_ptr<Residence> residence,
                                                           Stream& compute) {
  ASSIGN_OR_RETURN(auto values, residence->Attach(compute));
  return std::make_unique<ClientSide>(std::move(residence), std::move(values));
}

absl::Status Residence::Load(const Checkpoint* checkpoint) {
  MutexLock lock(mu_);
  BlockContext context;
  context.table = &served_->table;
  context.partition = &served_->whole;
  context.policy = &served_->policy;
  context.optimizer = &served_->optimizer;
  context.options = &served_->options;
  SliceValues values(context, served_->whole.slices.front());
  if (checkpoint == nullptr) {
    values.Initialize();
  } else {
    RETURN_IF_ERROR(values.Restore(*checkpoint));
    clock_ = checkpoint->clock();
  }
  values.SaveTo(host_);
  return absl::OkStatus();
}

void Residence::CutAt(int64_t clock, const std::string& directory) {
  MutexLock lock(mu_);
  pending_.emplace(clock, served_->cuts.Begin(clock, directory, /*slices=*/1));
  ReachCuts();
}

void Residence::Close() {
  MutexLock lock(mu_);
  pending_.clear();
  served_.reset();
}

absl::StatusOr<std::unique_ptr<DeviceValues>> Residence::Attach(Stream& compute) {
  MutexLock lock(mu_);
  if (served_ == nullptr) return absl::UnavailableError("there is no parameter server here");
  CHECK(values_ == nullptr);
  ASSIGN_OR_RETURN(auto values,
                   DeviceValues::Make(served_->table, served_->optimizer, compute, host_));
  values_ = values.get();
  host_ = {};
  return values;
}

void Residence::Detach() {
  MutexLock lock(mu_);
  if (served_ != nullptr) {
    if (absl::Status copied = values_->CopyTo(host_); given_up_.ok()) given_up_ = std::move(copied);
  }
  values_ = nullptr;
}

int64_t Residence::clock() {
  MutexLock lock(mu_);
  return clock_;
}

absl::Status Residence::Step() {
  MutexLock lock(mu_);
  if (served_ == nullptr) return absl::UnavailableError("the parameter server here has ended");
  RETURN_IF_ERROR(given_up_);
  ASSIGN_OR_RETURN(const bool finite, values_->Finite());
  Count(counters_.pushes);
  if (!finite) {
    given_up_ = NonFinite();
    Count(counters_.refused);
    ReachCuts();
    if (served_->events.on_bad_push) served_->events.on_bad_push(given_up_);
    return given_up_;
  }
  {
    const TraceSpan span(served_->trace, "apply", clock_, /*replica=*/0);
    values_->Update(InfoOfStep());
  }
  ++clock_;
  Count(counters_.applies);
  ReachCuts();
  return absl::OkStatus();
}

StepInfo Residence::InfoOfStep() const {
  StepInfo info;
  info.step = clock_;
  info.applies = clock_ + 1;
  info.learning_rate = served_->schedule(clock_);
  info.scale = served_->policy.Scale(/*staleness=*/0, /*replicas=*/1);
  info.clip_value = served_->options.clip_value;
  info.weight_decay = served_->options.weight_decay;
  return info;
}

absl::Status Residence::NonFinite() const {
  ASSIGN_OR_RETURN(const std::vector<float> gradient, values_->Gradients());
  const auto& slices = served_->partition.slices;
  const auto bad = std::ranges::find_if(slices, [&](const ParamSlice& slice) {
    const auto of_slice = std::span(gradient).subspan(
        static_cast<size_t>(slice.offset(served_->table)), static_cast<size_t>(slice.size));
    return !std::ranges::all_of(of_slice, [](float x) { return std::isfinite(x); });
  });
  CHECK(bad != slices.end());
  return NonFiniteGradient(SliceName(served_->table, *bad), clock_, /*replica=*/0,
                           /*codec=*/nullptr);
}

void Residence::ReachCuts() {
  while (!pending_.empty() && (!given_up_.ok() || pending_.begin()->first <= clock_)) {
    const std::shared_ptr<Cut> cut = pending_.begin()->second;
    pending_.erase(pending_.begin());
    SavedSlice saved{.slice = 0, .version = clock_};
    absl::Status status = given_up_;
    if (status.ok() && cut->clock < clock_) {
      status = absl::OutOfRangeError(fmt::format(
          "cannot save clock {}: the parameters are at clock {} already", cut->clock, clock_));
    }
    if (status.ok()) status = CopyTo(saved);
    if (status.ok()) {
      served_->cuts.Add(cut, std::move(saved));
    } else {
      served_->cuts.Fail(cut, status);
    }
  }
}

absl::Status Residence::CopyTo(SavedSlice& saved) const {
  if (values_ != nullptr) return values_->CopyTo(saved);
  saved.weights = host_.weights;
  saved.slots = host_.slots;
  return absl::OkStatus();
}

}  // namespace muster::ps
