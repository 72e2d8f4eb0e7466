// Rules of Muster's own sections: training and cluster. Optimizers' names and hyper-parameters are
// known to ps/optimizer.h alone.
#include <fmt/format.h>

#include <cmath>

#include "configs/rule_reporter.h"
#include "configs/rules.h"
#include "configs/scalar.h"
#include "configs/tiers.h"

namespace muster {
namespace {

constexpr int kMaxThreads = 4096;

class TrainingRules {
 public:
  explicit TrainingRules(JobDraft* draft)
      : report_("training", draft), job_(draft->job), training_(draft->job.training()) {}

  void Run() {
    AtLeast("batchSize", training_.batch_size(), 1, report_.Given("batchSize"));
    InRange("threads", training_.threads(), 0, kMaxThreads);
    InRange("serverShards", training_.server_shards(), 0, kMaxThreads);
    AtLeast("summaryInterval", training_.summary_interval(), 0, true);
    AtLeast("checkpoints.interval", training_.checkpoints().interval(), 0, true);
    AtLeast("checkpoints.keep", training_.checkpoints().keep(), 0, true);
    AtLeast("evaluation.interval", training_.evaluation().interval(), 0, true);
    Stages();
    ConsistencyRules();
    ScaleRule();
    BackupRules();
    Optimizer();
    TraceRules();
    if (training_.has_chief_trains() && !training_.chief_trains() &&
        SizeOf(job_.training_input(), Role::kWorker).count == 0) {
      report_.Add("chiefTrains", "false, and there are no workers: nobody would train",
                  "write chiefTrains: true, or a workerCount");
    }
  }

 private:
  void AtLeast(const std::string& field, int64_t value, int64_t low, bool given) {
    if (given && value < low) {
      report_.Add(field, fmt::format("{} is too small", value),
                  fmt::format("write {} or more", low));
    }
  }
  void InRange(const std::string& field, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) {
      report_.Add(field, fmt::format("{} is out of range", value),
                  fmt::format("write a number from {} to {}", low, high));
    }
  }

  void Stages() {
    int64_t sum = 0;
    for (int i = 0; i < training_.schedule_size(); ++i) {
      const Stage& stage = training_.schedule(i);
      const std::string path = IndexPath("schedule", i);
      AtLeast(path + ".steps", stage.steps(), 1, true);
      if (!std::isfinite(stage.learning_rate()) || stage.learning_rate() <= 0) {
        report_.Add(path + ".learningRate",
                    fmt::format("{} is not a learning rate", stage.learning_rate()),
                    "write a finite number above 0");
      }
      StageShape(path, stage);
      if (stage.steps() > 0 && __builtin_add_overflow(sum, stage.steps(), &sum)) {
        report_.Add("schedule", "more steps than 64 bits can count", "write fewer");
        return;
      }
    }
    total_steps_ = sum;
  }

  void StageShape(const std::string& path, const Stage& stage) {
    if (!stage.has_end_learning_rate()) {
      const auto pointless = [&](const char* field) {
        report_.Add(path + field, "there is no endLearningRate, so the rate does not change",
                    "write an endLearningRate, or delete it");
      };
      if (stage.has_shape()) pointless(".shape");
      if (stage.has_power()) pointless(".power");
      return;
    }
    const double end = stage.end_learning_rate();
    if (!std::isfinite(end) || end < 0) {
      report_.Add(path + ".endLearningRate", fmt::format("{} is not a learning rate", end),
                  "write a finite number, 0 or more");
    } else if (end == stage.learning_rate()) {
      report_.Add(path + ".endLearningRate",
                  fmt::format("{} is learningRate, too, so the rate does not change", end),
                  "write another, or delete it");
    }
    if (stage.shape() != Stage::POLYNOMIAL) {
      if (!stage.has_power()) return;
      report_.Add(
          path + ".power",
          fmt::format("only POLYNOMIAL has one, and shape is {}", Stage::Shape_Name(stage.shape())),
          "write shape: POLYNOMIAL, or delete it");
    } else if (!stage.has_power()) {
      report_.Add(path + ".power", "required with POLYNOMIAL", "write power: 2");
    } else if (!std::isfinite(stage.power()) || stage.power() <= 0) {
      report_.Add(path + ".power", fmt::format("{} is not a power", stage.power()),
                  "write a finite number above 0");
    }
  }

  void ConsistencyRules() {
    const Consistency& consistency = training_.consistency();
    AtLeast("consistency.staleness", consistency.staleness(), 0, true);
    if (consistency.staleness() > 0 && consistency.mode() != Consistency::SSP) {
      report_.Add("consistency.staleness",
                  fmt::format("only SSP has a bound, and mode is {}",
                              Consistency::Mode_Name(consistency.mode())),
                  "write mode: SSP, or delete it");
    }
  }

  void ScaleRule() {
    const Consistency& consistency = training_.consistency();
    if (!consistency.scale_by_staleness() || consistency.mode() == Consistency::ASYNC) return;
    report_.Add("consistency.scaleByStaleness",
                fmt::format("only ASYNC scales gradients, and mode is {}",
                            Consistency::Mode_Name(consistency.mode())),
                "write mode: ASYNC, or delete it");
  }

  void BackupRules() {
    const Consistency& consistency = training_.consistency();
    AtLeast("consistency.backupWorkers", consistency.backup_workers(), 0, true);
    if (consistency.backup_workers() <= 0) return;
    if (consistency.mode() != Consistency::BSP) {
      report_.Add("consistency.backupWorkers",
                  fmt::format("only BSP waits for replicas, and mode is {}",
                              Consistency::Mode_Name(consistency.mode())),
                  "write mode: BSP, or delete it");
    }
    if (training_.optimizer().clip_norm() > 0) {
      report_.Add("optimizer.clipNorm",
                  "the norm is summed up by the trainer of replica 0, which a step may do without "
                  "where there are backupWorkers",
                  "write clipValue, or delete backupWorkers");
    }
  }

  void Optimizer() {
    const OptimizerSpec& optimizer = training_.optimizer();
    if (!std::isfinite(optimizer.weight_decay()) || optimizer.weight_decay() < 0) {
      report_.Add("optimizer.weightDecay",
                  fmt::format("{} is not a weight decay", optimizer.weight_decay()),
                  "write a finite number, 0 or more");
    }
    if (!std::isfinite(optimizer.clip_value()) || optimizer.clip_value() < 0) {
      report_.Add("optimizer.clipValue", fmt::format("{} is not a bound", optimizer.clip_value()),
                  "write a finite number above 0, or 0 for none");
    }
    if (!std::isfinite(optimizer.clip_norm()) || optimizer.clip_norm() < 0) {
      report_.Add("optimizer.clipNorm", fmt::format("{} is not a bound", optimizer.clip_norm()),
                  "write a finite number above 0, or 0 for none");
    }
    for (const auto& [name, value] : optimizer.params()) {
      if (!std::isfinite(value)) {
        report_.Add("optimizer.params." + name, fmt::format("{} is not finite", value),
                    "write a finite number");
      }
    }
  }

  void TraceRules() {
    const int64_t from = training_.trace().from_step();
    AtLeast("trace.fromStep", from, 0, true);
    AtLeast("trace.steps", training_.trace().steps(), 1, training_.has_trace());
    if (total_steps_ > 0 && from >= total_steps_) {
      report_.Add("trace.fromStep",
                  fmt::format("{} is no step of the job, whose last is {}", from, total_steps_ - 1),
                  "write an earlier one, or train for more steps");
    }
  }

  RuleReporter report_;
  const Job& job_;
  const Training& training_;
  int64_t total_steps_ = 0;  // 0: not known
};

}  // namespace

void CheckTraining(JobDraft* draft) { TrainingRules(draft).Run(); }

}  // namespace muster
