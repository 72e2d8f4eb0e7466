// The schedule of a job: its stages of steps and learning rates, as numbers by global step.
//
// Free functions, thread-safe.
#pragma once

#include <cstdint>

#include "configs/job.pb.h"

namespace muster {

// Learning rate of a global step (from 0): a function of schedule and step alone. A stage begins
// at its learningRate and, where it has an endLearningRate, moves so that the step after it would
// have that; after the last stage the rate stays where that stage got to. 0 without stages.
double LearningRate(const Training& training, int64_t step);
// Sum of the stages' steps.
int64_t TotalSteps(const Training& training);

}  // namespace muster
