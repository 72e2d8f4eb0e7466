#include "master/training_progress.h"

#include <gtest/gtest.h>

namespace muster::master {
namespace {

// Two replicas with batches of 8; rate 0.5 for ten steps, then 0.25.
TrainingProgress TwoReplicas(int64_t start = 0) {
  Training training;
  training.set_batch_size(8);
  for (double rate : {0.5, 0.25}) {
    Stage* stage = training.add_schedule();
    stage->set_steps(10);
    stage->set_learning_rate(rate);
  }
  TrainingProgress progress(training, 2, start);
  progress.Begin(/*now_ms=*/1'000);
  return progress;
}

Progress Report(int32_t replica, int64_t step, double loss = 1, int64_t samples = 0) {
  Progress report;
  report.set_replica(replica);
  report.set_step(step);
  report.set_loss(loss);
  report.set_samples(samples);
  return report;
}

TEST(TrainingProgress, AReplicasRateCountsFromItsLastReport) {
  TrainingProgress progress = TwoReplicas();
  EXPECT_DOUBLE_EQ(progress.Throughput(Report(0, 1, 1, 80), 3'000)->samples_per_second, 40);
  EXPECT_DOUBLE_EQ(progress.Throughput(Report(0, 5, 1, 80), 4'000)->samples_per_second, 80);
  EXPECT_DOUBLE_EQ(progress.Throughput(Report(1, 1, 1, 80), 5'000)->samples_per_second, 20)
      << "the other replica's first report: since the start";
  EXPECT_FALSE(progress.Throughput(Report(1, 2, 1, 80), 5'000).has_value()) << "no time passed";
}

TEST(TrainingProgress, WhatAReplicaMissedIsNotLostWhenNoTimePassed) {
  TrainingProgress progress = TwoReplicas();
  Progress report = Report(0, 1);
  report.set_missed(2);
  EXPECT_FALSE(progress.Throughput(report, 1'000).has_value());
  EXPECT_EQ(progress.Throughput(report, 2'000)->missed, 4);
  EXPECT_EQ(progress.Throughput(report, 3'000)->missed, 2);
}

TEST(TrainingProgress, APointHasTheMeanLossOfAllReplicasAndTheStepsLearningRate) {
  TrainingProgress progress = TwoReplicas();
  EXPECT_FALSE(progress.Loss(Report(1, 10, 3), 2'000).has_value());
  const auto tenth = progress.Loss(Report(0, 10, 1), 2'500);
  ASSERT_TRUE(tenth.has_value());
  EXPECT_EQ(tenth->loss.step, 10);
  EXPECT_DOUBLE_EQ(tenth->loss.loss, 2);
  EXPECT_DOUBLE_EQ(tenth->loss.learning_rate, 0.5) << "of the step that was finished";
  EXPECT_EQ(tenth->loss.time_ms, 2'500);
  progress.Loss(Report(0, 11), 3'000);
  EXPECT_DOUBLE_EQ(progress.Loss(Report(1, 11), 3'000)->loss.learning_rate, 0.25);
}

TEST(TrainingProgress, TheJobsRateCountsFromTheLastPoint) {
  TrainingProgress progress = TwoReplicas();
  for (int32_t replica : {0, 1}) progress.Loss(Report(replica, 5), 2'000);
  progress.Loss(Report(0, 10), 3'000);
  const auto point = progress.Loss(Report(1, 10), 4'000);
  EXPECT_DOUBLE_EQ(point->samples_per_second, 5 * 8 * 2 / 2.0);
}

TEST(TrainingProgress, TheFirstStepsRateIsNotToldSinceItHoldsTheLoadersStart) {
  TrainingProgress progress = TwoReplicas(/*start=*/4);
  progress.Loss(Report(0, 5), 2'000);
  EXPECT_EQ(progress.Loss(Report(1, 5), 2'000)->samples_per_second, 0);
  progress.Loss(Report(0, 6), 3'000);
  EXPECT_GT(progress.Loss(Report(1, 6), 3'000)->samples_per_second, 0);
}

}  // namespace
}  // namespace muster::master
