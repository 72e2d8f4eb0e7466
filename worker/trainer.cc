#include "worker/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "ps/norms.h"
#include "telemetry/check.h"

namespace muster::worker {
namespace {

using Clock = Trace::Clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

// Adds the time from construction to destruction to `*total_ms`.
class Stopwatch {
 public:
  explicit Stopwatch(double* total_ms) : total_ms_(total_ms) {}
  ~Stopwatch() { *total_ms_ += Milliseconds(Clock::now() - begin_).count(); }

 private:
  double* const total_ms_;
  const Clock::time_point begin_ = Clock::now();
};

// Whether a multiple of `interval` lies above `before`, up to `clock`. Never for 0.
bool Passes(int64_t before, int64_t clock, int64_t interval) {
  return interval > 0 && clock / interval > before / interval;
}

}  // namespace

StepTimes& StepTimes::operator+=(const StepTimes& other) {
  data += other.data;
  compute += other.compute;
  push += other.push;
  wait += other.wait;
  pull += other.pull;
  return *this;
}

TrainerStats& TrainerStats::operator+=(const TrainerStats& other) {
  steps += other.steps;
  samples += other.samples;
  missed += other.missed;
  times += other.times;
  return *this;
}

Trainer::Trainer(ModelGroup& models, const ps::ParamTable& table, ps::Client& client,
                 TrainerLoaders loaders, TrainerOptions options, TrainerEvents events)
    : models_(models),
      table_(table),
      client_(client),
      loaders_(loaders),
      options_(std::move(options)),
      events_(std::move(events)),
      trace_(options_.trace, "trainer"),
      losses_(options_.leases.size()),
      reported_(options_.start),
      missed_(options_.leases.size(), 0),
      target_(options_.target),
      final_evaluation_(options_.final_evaluation) {
  CHECK(!options_.leases.empty());
  CHECK(options_.clocks.empty() || options_.clocks.size() == options_.leases.size());
  for (size_t lease = 0; lease < options_.leases.size(); ++lease) {
    begun_ = std::max(begun_, ClockOf(lease) + 1);
  }
}

absl::Status Trainer::Run() {
  // What is clipped is the gradient as it is.
  const bool clips = std::isfinite(options_.clip_norm);
  ASSIGN_OR_RETURN(exchange_, MakeExchange(models_, table_, client_, options_.leases,
                                           /*encodes=*/!clips));
  client_.Pull(options_.leases.front(), options_.start, -1);
  RETURN_IF_ERROR(client_.Wait(options_.start));

  int64_t before = options_.start - 1, clock = client_.reached();
  if (clock > options_.start && events_.on_clock) events_.on_clock(clock);
  for (;;) {
    if (clock > 0 && Passes(before, clock, options_.evaluation_interval)) {
      bool at_end;
      {
        MutexLock lock(mu_);
        at_end = clock >= target_;
      }
      if (!at_end) RETURN_IF_ERROR(Evaluate(clock, Split::kValidation));
    }
    ASSIGN_OR_RETURN(const bool begin, BeginStep(clock));
    if (!begin) break;
    RETURN_IF_ERROR(Step(clock));
    const bool first = before < options_.start;
    before = clock;
    clock = client_.reached();
    if (events_.on_clock) events_.on_clock(clock);
    if (first || Passes(reported_, before + 1, options_.summary_interval)) Report(before + 1);
  }
  if (steps_ > 0) Report(before + 1);
  bool final_evaluation;
  {
    MutexLock lock(mu_);
    final_evaluation = final_evaluation_;
  }
  if (!final_evaluation) return absl::OkStatus();
  if (!options_.exact) {
    // The last gradients of the others may still be under way; the final figures are those of the
    // final parameters.
    client_.PullAtClock(options_.leases.front(), clock);
    RETURN_IF_ERROR(client_.Wait(clock));
  }
  RETURN_IF_ERROR(Evaluate(clock, Split::kValidation));
  return Evaluate(clock, Split::kTesting);
}

absl::StatusOr<bool> Trainer::BeginStep(int64_t step) {
  MutexLock lock(mu_);
  while (held_ && cancelled_.ok()) changed_.Wait(mu_);
  if (!cancelled_.ok()) return cancelled_;
  if (step >= target_) return false;
  begun_ = std::max(begun_, step + 1);
  return true;
}

absl::Status Trainer::Step(int64_t step) {
  StepTimes times;
  ASSIGN_OR_RETURN(const ConstArenas weights, exchange_->Weights(step));
  due_.clear();
  for (size_t lease = 0; lease < options_.leases.size(); ++lease) {
    if (ClockOf(lease) <= step) due_.push_back(lease);
  }
  for (const size_t lease : due_) {
    const int32_t replica = options_.leases[lease];
    std::span<const Batch> shares;
    {
      Stopwatch watch(&times.data);
      const TraceSpan span(trace_, "data", step, replica);
      ASSIGN_OR_RETURN(shares, loaders_.training.Next(step, replica));
    }
    Stopwatch watch(&times.compute);
    {
      const TraceSpan span(trace_, "forward", step, replica);
      models_.Forward(weights, shares, {options_.seed, step, replica});
    }
    const bool last = lease == due_.back();
    const std::span<float> grads = exchange_->PushedGradients(lease);
    const auto push_one = [&](ps::ParamId param) {
      const TraceSpan span(trace_, "push", step, replica, /*slice=*/-1,
                           table_.specs()[param].name.c_str());
      const std::span<const float> grad(grads.data() + table_.offset(param),
                                        table_.specs()[param].size());
      client_.Push(replica, step, param, grad, /*priority=*/param, /*want_params=*/last);
    };
    // The norm of a gradient is known when all of it is there.
    const bool clips = std::isfinite(options_.clip_norm);
    std::vector<ps::ParamId> waiting;
    const auto on_host = [&](ps::ParamId param) {
      if (clips) return waiting.push_back(param);
      Stopwatch push(&times.push);
      push_one(param);
    };
    {
      const TraceSpan backward(trace_, "backward", step, replica);
      models_.Backward(weights, exchange_->Gradients(lease), [&](size_t device, ps::ParamId param) {
        if (exchange_->Bring(device, param)) on_host(param);
      });
      RETURN_IF_ERROR(exchange_->Finish(on_host));
      if (clips) ps::ClipByNorm(table_, options_.clip_norm, grads);
      losses_[lease] = models_.Loss();
    }
    Stopwatch push(&times.push);
    for (const ps::ParamId param : waiting) push_one(param);
    const TraceSpan span(trace_, "push", step, replica);
    client_.Flush();
  }
  times.compute -= times.push;
  const Clock::time_point waiting = Clock::now();
  RETURN_IF_ERROR(client_.Wait(step + 1));
  const Clock::time_point end = Clock::now();
  times.pull = client_.last_pull_ms();
  times.wait = Milliseconds(end - waiting).count() - times.pull;
  TraceWait(step, waiting, end);
  times_ += times;
  ++steps_;
  MutexLock lock(mu_);
  ++stats_.steps;
  stats_.samples += static_cast<int64_t>(due_.size()) * options_.batch_size;
  stats_.times += times;
  stats_.missed = 0;
  for (const int32_t replica : options_.leases) stats_.missed += client_.missed(replica);
  return absl::OkStatus();
}

void Trainer::TraceWait(int64_t step, Clock::time_point begin, Clock::time_point end) {
  if (!trace_.Covers(step)) return;
  // The last lease's pushes ask for the parameters.
  Trace::Event event{.step = step, .replica = options_.leases[due_.back()]};
  const auto pulling =
      std::chrono::duration_cast<Clock::duration>(Milliseconds(client_.last_pull_ms()));
  const Clock::time_point arriving = std::max(begin, end - pulling);
  event.name = "wait", event.begin = begin, event.end = arriving;
  trace_.Add(event);
  event.name = "pull", event.begin = arriving, event.end = end;
  trace_.Add(event);
}

void Trainer::Report(int64_t finished) {
  for (const size_t lease : due_) {
    const int64_t missed = client_.missed(options_.leases[lease]);
    if (events_.on_progress) {
      events_.on_progress({options_.leases[lease], finished, losses_[lease],
                           steps_ * options_.batch_size, missed - missed_[lease], times_});
    }
    missed_[lease] = missed;
    times_ = {};
  }
  steps_ = 0;
  reported_ = finished;
}

TrainerStats Trainer::stats() const {
  MutexLock lock(mu_);
  return stats_;
}

absl::Status Trainer::Evaluate(int64_t clock, Split split) {
  LoaderGroup& loaders = split == Split::kTesting ? loaders_.testing : loaders_.validation;
  const auto stopped = [this](int64_t) -> absl::Status {
    MutexLock lock(mu_);
    return cancelled_;
  };
  for (const int32_t replica : options_.leases) {
    if (!options_.exact && replica != 0) continue;
    ASSIGN_OR_RETURN(const ConstArenas weights, exchange_->Weights(clock));
    RETURN_IF_ERROR(exchange_->Settle());
    ASSIGN_OR_RETURN(Confusion confusion,
                     worker::Evaluate(models_, weights, loaders, replica, stopped));
    if (events_.on_evaluated) {
      events_.on_evaluated({replica, clock, split, std::move(confusion),
                            options_.exact ? options_.num_replicas : 1});
    }
  }
  return absl::OkStatus();
}

int64_t Trainer::Hold() {
  MutexLock lock(mu_);
  held_ = true;
  return begun_;
}

void Trainer::SetTarget(int64_t clock, bool final_evaluation) {
  MutexLock lock(mu_);
  target_ = clock;
  final_evaluation_ = final_evaluation;
  held_ = false;
  changed_.NotifyAll();
}

void Trainer::Cancel(absl::Status status) {
  client_.Cancel(status);
  MutexLock lock(mu_);
  if (cancelled_.ok()) cancelled_ = std::move(status);
  changed_.NotifyAll();
}

}  // namespace muster::worker
