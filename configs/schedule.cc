#include "configs/schedule.h"

#include <cmath>
#include <numbers>

namespace muster {
namespace {

// `done` of the stage: 0 at its first step, 1 at the step after it.
double RateOf(const Stage& stage, double done) {
  if (!stage.has_end_learning_rate()) return stage.learning_rate();
  const double begin = stage.learning_rate(), end = stage.end_learning_rate();
  switch (stage.shape()) {
    case Stage::COSINE:
      return end + (begin - end) * (1 + std::cos(std::numbers::pi * done)) / 2;
    case Stage::POLYNOMIAL:
      return end + (begin - end) * std::pow(1 - done, stage.power());
    default:
      return begin + (end - begin) * done;
  }
}

}  // namespace

double LearningRate(const Training& training, int64_t step) {
  int64_t begin = 0;
  for (const Stage& stage : training.schedule()) {
    if (step < begin + stage.steps()) {
      return RateOf(stage, static_cast<double>(step - begin) / static_cast<double>(stage.steps()));
    }
    begin += stage.steps();
  }
  if (training.schedule().empty()) return 0;
  return RateOf(training.schedule(training.schedule_size() - 1), 1);
}

int64_t TotalSteps(const Training& training) {
  int64_t total = 0;
  for (const Stage& stage : training.schedule()) total += stage.steps();
  return total;
}

}  // namespace muster
