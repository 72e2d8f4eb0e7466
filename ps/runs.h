// Runs: ranges of a slice that are updated alike: one parameter's elements, or several neighbours'
// whose specs differ in nothing that an update asks for.
//
// Value type and free functions: thread-safe for different slices. Sizes are in elements.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/stream.h"
#include "ps/optimizer.h"
#include "ps/param.h"

namespace muster::ps {

// Elements [begin, end) of the slice. The padding behind a parameter belongs to its run: it stays
// 0, as its weights, gradients and averages are.
struct Run {
  int64_t begin = 0, end = 0;
  const ParamSpec* spec = nullptr;
  float trust = 1;  // factor of this step's learning rate
};

// Of the slice, in their order. With a trust ratio each parameter has its own.
std::vector<Run> MakeRuns(const ParamTable& table, const ParamSlice& slice,
                          const Optimizer& optimizer);

// `info` with what is the run's own.
StepInfo InfoOf(const Run& run, StepInfo info);

// What an update reads and writes of a run: all of one size, on the stream's device.
struct RunValues {
  std::span<const float> sum;  // of n replicas' gradients, or values where the run is of statistics
  std::span<const float> w;
  std::span<float> next;  // may be w
  std::span<const std::span<float>> slots;
};

// Enqueues the optimizer's step; statistics move by `share` of the way that all replicas' values
// would move them:
//   next = w + (1 - momentum) * share * (sum / n - w)
void UpdateRun(Stream& stream, const Optimizer& optimizer, const Run& run, const StepInfo& info,
               int n, float share, const RunValues& values);

}  // namespace muster::ps
