#include "master/training_progress.h"

#include <utility>

#include "configs/schedule.h"

namespace muster::master {
namespace {

double PerSecond(double count, int64_t ms) { return 1000.0 * count / static_cast<double>(ms); }

}  // namespace

TrainingProgress::TrainingProgress(const Training& training, int replicas, int64_t start)
    : training_(training),
      counted_(replicas - training.consistency().backup_workers()),
      start_(start),
      losses_(counted_),
      loss_step_(start) {}

std::optional<ThroughputPoint> TrainingProgress::Throughput(const Progress& report,
                                                            int64_t now_ms) {
  const auto [last, first_report] = replica_ms_.try_emplace(report.replica(), loss_ms_);
  const int64_t since = last->second;
  last->second = now_ms;
  missed_[report.replica()] += report.missed();
  if (now_ms <= since) return std::nullopt;
  return ThroughputPoint{report.replica(),
                         report.step(),
                         PerSecond(static_cast<double>(report.samples()), now_ms - since),
                         report.compute_ms(),
                         report.push_ms(),
                         report.wait_ms(),
                         report.pull_ms(),
                         report.data_ms(),
                         std::exchange(missed_[report.replica()], 0),
                         now_ms};
}

std::optional<TrainingProgress::Point> TrainingProgress::Loss(const Progress& report,
                                                              int64_t now_ms) {
  const int64_t step = report.step();
  const std::optional<double> loss = losses_.Add(step, report.replica(), report.loss());
  if (!loss.has_value()) return std::nullopt;
  Point point;
  point.loss = {step, *loss, LearningRate(training_, step - 1), now_ms};
  // A rate over the first step would count the start of the loaders.
  if (now_ms > loss_ms_ && step > loss_step_ && step != start_ + 1) {
    const auto samples = static_cast<double>(step - loss_step_) * training_.batch_size() *
                         static_cast<double>(counted_);
    point.samples_per_second = PerSecond(samples, now_ms - loss_ms_);
  }
  loss_step_ = step;
  loss_ms_ = now_ms;
  return point;
}

}  // namespace muster::master
