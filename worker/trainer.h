// Trainer: the step loop of one worker process, over the replicas that it holds leases on.
//
//   for step s:
//     for each leased replica v:
//       batch(seed, s, v) → models.Forward → models.Backward(on_grad → exchange → client.Push)
//     client.Wait(s + 1): the parameters that step s + 1 reads are there; where steps do without
//         late replicas, those of a later step, with which the loop goes on
//
// Run is called by one thread, which owns the models; Hold, SetTarget and Cancel are thread-safe.
// It knows neither master nor job file: it takes values and reports through callbacks (called on
// Run's thread).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "ps/client.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"
#include "telemetry/trace.h"
#include "worker/evaluation.h"
#include "worker/exchange.h"
#include "worker/loader_group.h"
#include "worker/model_group.h"
#include "worker/module.h"

namespace muster::worker {

struct TrainerOptions {
  std::vector<int32_t> leases;  // replicas, rising
  // By lease: the step with which its replica goes on, where that is not `start` for all: never
  // before it, and for one of them it is.
  std::vector<int64_t> clocks;
  int num_replicas = 1;  // V
  uint64_t seed = 0;
  int64_t start = 0;             // first step
  int64_t target = 0;            // steps finished at the end
  bool final_evaluation = true;  // of both splits, there
  int64_t batch_size = 0;
  int64_t summary_interval = 10;  // steps between progress reports
  int64_t evaluation_interval =
      0;  // steps between evaluations on the validation split; 0: only at the end
  // Each replica's gradient is scaled down to this norm before it is pushed; infinity: as it is.
  double clip_norm = std::numeric_limits<double>::infinity();
  // BSP, without backup workers: every replica evaluates its share; else replica 0 evaluates all,
  // at the first clock it reaches from each multiple of the interval on.
  bool exact = true;
  Trace* trace = nullptr;  // of the steps' phases; borrowed, outlives the trainer, or null
};

// Where the wall time of a trainer goes, in milliseconds.
struct StepTimes {
  double data = 0;     // waiting for batches
  double compute = 0;  // forward and backward
  double push = 0;     // handing gradients to the client, within the backward pass
  double wait = 0;     // for parameters of which nothing is there yet
  double pull = 0;     // while they arrive

  StepTimes& operator+=(const StepTimes& other);
};

// What a replica did since its last report.
struct ReplicaProgress {
  int32_t replica = 0;
  int64_t step = 0;  // steps finished
  double loss = 0;   // of the last step
  int64_t samples = 0;
  int64_t missed = 0;  // steps that did without its gradient
  StepTimes times;     // of the process
};

struct ShareEvaluation {
  int32_t replica = 0;
  int64_t step = 0;
  Split split = Split::kValidation;
  Confusion confusion;
  int shares = 1;  // messages that make up the evaluation
};

struct TrainerStats {
  int64_t steps = 0;    // begun and finished by this trainer
  int64_t samples = 0;  // of all its leases
  int64_t missed = 0;   // steps that did without a gradient of a lease, over its leases
  StepTimes times;

  TrainerStats& operator+=(const TrainerStats& other);
};

struct TrainerEvents {
  std::function<void(const ReplicaProgress&)> on_progress;
  std::function<void(const ShareEvaluation&)> on_evaluated;
  std::function<void(int64_t clock)> on_clock;  // after every step
};

// Of the splits, each with a loader for each model. Evaluations are in as many shares as replicas
// where options.exact, else in one.
struct TrainerLoaders {
  LoaderGroup &training, &validation, &testing;
};

class Trainer {
 public:
  // Borrows everything; `models` are prepared for `table`, `client` is connected,
  // `loaders.training` starts at options.start.
  Trainer(ModelGroup& models, const ps::ParamTable& table, ps::Client& client,
          TrainerLoaders loaders, TrainerOptions options, TrainerEvents events);

  // Trains until the target clock, evaluates, and returns OK; or returns the first error (a Cancel
  // included).
  absl::Status Run();

  // Lets no further step begin until SetTarget is called; returns the number of steps begun so far,
  // one more than `clocks` at least: they may have been begun before.
  int64_t Hold();
  // Ends the run at `clock` (>= every step begun) and lifts a Hold. Without `final_evaluation` the
  // splits are not evaluated at the end.
  void SetTarget(int64_t clock, bool final_evaluation);
  // Totals since the start, for all leases. Thread-safe.
  TrainerStats stats() const;
  // Makes Run return `status` soon.
  void Cancel(absl::Status status);

 private:
  // Waits while held. False when `step` is not to begin because the target is reached.
  absl::StatusOr<bool> BeginStep(int64_t step);
  absl::Status Step(int64_t step);
  absl::Status Evaluate(int64_t clock, Split split);
  int64_t ClockOf(size_t lease) const {
    return options_.clocks.empty() ? options_.start : options_.clocks[lease];
  }
  // Traces a Wait of step `step`, which ended with last_pull_ms of arriving parameters.
  void TraceWait(int64_t step, Trace::Clock::time_point begin, Trace::Clock::time_point end);
  void Report(int64_t finished);

  ModelGroup& models_;
  const ps::ParamTable& table_;
  ps::Client& client_;
  const TrainerLoaders loaders_;
  const TrainerOptions options_;
  const TrainerEvents events_;
  const TraceThread trace_;

  // Owned by Run's thread.
  std::unique_ptr<Exchange> exchange_;
  std::vector<size_t> due_;     // leases that the last step was of
  std::vector<double> losses_;  // by lease: of the last step
  int64_t reported_ = 0;        // clock of the last report
  // Since the last report:
  StepTimes times_;
  int64_t steps_ = 0;
  std::vector<int64_t> missed_;  // by lease: until then

  mutable Mutex mu_;
  CondVar changed_;
  int64_t begun_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t target_ ABSL_GUARDED_BY(mu_);
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  bool final_evaluation_ ABSL_GUARDED_BY(mu_);
  absl::Status cancelled_ ABSL_GUARDED_BY(mu_);
  TrainerStats stats_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::worker
