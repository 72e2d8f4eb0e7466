// The learning rate by global step: at the borders of stages and in between, by hand.
#include "configs/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "configs/job_yaml.h"

namespace muster {
namespace {

// Half a unit in the last place for each of a formula's few operations.
constexpr double kTolerance = 4 * std::numeric_limits<double>::epsilon();

Training WithSchedule(const std::string& stages) {
  JobDraft draft;
  EXPECT_TRUE(ReadJobYaml("training: {schedule: " + stages + "}", "job.yaml", &draft));
  EXPECT_EQ(draft.problems.Text(), "");
  return draft.job.training();
}

void ExpectRates(const std::string& stages,
                 const std::vector<std::pair<int64_t, double>>& by_step) {
  const Training training = WithSchedule(stages);
  for (const auto& [step, rate] : by_step) {
    EXPECT_NEAR(LearningRate(training, step), rate, kTolerance) << stages << " at " << step;
  }
}

TEST(Schedule, StagesWithoutAnEndAreSteps) {
  ExpectRates("[{steps: 3, learningRate: 0.5}, {steps: 2, learningRate: 0.25}]",
              {{0, 0.5}, {2, 0.5}, {3, 0.25}, {4, 0.25}, {5, 0.25}, {1000, 0.25}});
}

TEST(Schedule, ALinearStageMeetsTheNextOne) {
  ExpectRates("[{steps: 4, learningRate: 0.2, endLearningRate: 1}, {steps: 6, learningRate: 1}]",
              {{0, 0.2}, {1, 0.4}, {2, 0.6}, {3, 0.8}, {4, 1}, {9, 1}, {10, 1}});
}

TEST(Schedule, LinearIsTheShapeOfAnEndWithoutOne) {
  ExpectRates("[{steps: 4, learningRate: 1, endLearningRate: 0, shape: LINEAR}]",
              {{0, 1}, {1, 0.75}, {3, 0.25}, {4, 0}, {100, 0}});
}

TEST(Schedule, CosineIsFlatAtBothEnds) {
  const double root = std::sqrt(0.5);
  ExpectRates("[{steps: 8, learningRate: 1, endLearningRate: 0.5, shape: COSINE}]",
              {{0, 1},
               {2, 0.5 + 0.25 * (1 + root)},
               {4, 0.75},
               {6, 0.5 + 0.25 * (1 - root)},
               {8, 0.5},
               {9, 0.5}});
  ExpectRates("[{steps: 3, learningRate: 2, endLearningRate: 6, shape: COSINE}]",
              {{0, 2}, {1, 3}, {2, 5}, {3, 6}});
}

TEST(Schedule, PolynomialFallsWithItsPower) {
  ExpectRates("[{steps: 4, learningRate: 1, endLearningRate: 0, shape: POLYNOMIAL, power: 2}]",
              {{0, 1}, {1, 0.5625}, {2, 0.25}, {3, 0.0625}, {4, 0}, {5, 0}});
  ExpectRates("[{steps: 4, learningRate: 3, endLearningRate: 1, shape: POLYNOMIAL, power: 0.5}]",
              {{0, 3}, {2, 1 + 2 * std::sqrt(0.5)}, {3, 2}, {4, 1}});
  ExpectRates("[{steps: 4, learningRate: 3, endLearningRate: 1, shape: POLYNOMIAL, power: 1}]",
              {{1, 2.5}, {2, 2}, {3, 1.5}});
}

TEST(Schedule, WarmUpThenCosineThenATail) {
  ExpectRates(
      "[{steps: 10, learningRate: 0.1, endLearningRate: 1},"
      " {steps: 20, learningRate: 1, endLearningRate: 0.2, shape: COSINE},"
      " {steps: 5, learningRate: 0.2}]",
      {{0, 0.1}, {5, 0.55}, {9, 0.91}, {10, 1}, {20, 0.6}, {30, 0.2}, {34, 0.2}, {35, 0.2}});
}

TEST(Schedule, AStageOfOneStepIsAtItsBeginning) {
  ExpectRates("[{steps: 1, learningRate: 1, endLearningRate: 0, shape: COSINE}]", {{0, 1}, {1, 0}});
}

TEST(Schedule, StepsBeyond32BitsAreExact) {
  ExpectRates("[{steps: 4611686018427387904, learningRate: 1, endLearningRate: 0}]",
              {{int64_t{1} << 60, 0.75}, {int64_t{1} << 61, 0.5}});
}

TEST(Schedule, TotalStepsAreTheSum) {
  EXPECT_EQ(TotalSteps(WithSchedule("[{steps: 3, learningRate: 1}, {steps: 4, learningRate: 1}]")),
            7);
  EXPECT_EQ(TotalSteps(Training()), 0);
  EXPECT_EQ(LearningRate(Training(), 0), 0);
}

}  // namespace
}  // namespace muster
