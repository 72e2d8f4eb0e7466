#include "ps/runs.h"

#include "kernels/device.h"
#include "kernels/device_ops.h"

namespace muster::ps {

std::vector<Run> MakeRuns(const ParamTable& table, const ParamSlice& slice,
                          const Optimizer& optimizer) {
  std::vector<Run> runs;
  ForEachPart(table, slice, [&](const ParamSlice& part, int64_t at) {
    const ParamSpec& spec = table.specs()[static_cast<size_t>(part.param)];
    if (!runs.empty()) runs.back().end = at;
    if (!runs.empty() && !optimizer.has_trust_ratio() && runs.back().spec->kind == spec.kind &&
        runs.back().spec->decay == spec.decay && runs.back().spec->lr_scale == spec.lr_scale &&
        runs.back().spec->momentum == spec.momentum) {
      return;
    }
    runs.push_back({at, 0, &spec});
  });
  runs.back().end = slice.size;
  return runs;
}

StepInfo InfoOf(const Run& run, StepInfo info) {
  info.learning_rate *= run.spec->lr_scale * run.trust;
  if (!run.spec->decay) info.weight_decay = 0;
  return info;
}

void UpdateRun(Stream& stream, const Optimizer& optimizer, const Run& run, const StepInfo& info,
               int n, float share, const RunValues& values) {
  if (run.spec->kind == ParamSpec::Kind::kStatistic) {
    stream.device().ops().EmaUpdate(stream, values.sum.data(), values.w.data(), values.next.data(),
                                    static_cast<int64_t>(values.sum.size()),
                                    1.0f / static_cast<float>(n), (1 - run.spec->momentum) * share);
    return;
  }
  optimizer.Apply(stream, InfoOf(run, info), values.sum, values.w, values.next, values.slots);
}

}  // namespace muster::ps
