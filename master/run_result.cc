#include "master/run_result.h"

#include <algorithm>
#include <string>
#include <vector>

#include "master/gather.h"
#include "ps/checkpoint.h"
#include "worker/export.h"

namespace muster::master {
namespace {

// Returns the path of model.onnx.
absl::StatusOr<std::string> ExportNewest(const JobDirectory& dir, const RunStart& run) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, NewestCheckpoint(dir, nullptr));
  ASSIGN_OR_RETURN(const std::vector<float> weights,
                   ps::ReadFullParams(checkpoint.part_files(), run.table));
  worker::ModelOrigin origin{run.identity.module, {}, checkpoint.step};
  for (const auto& [flag, value] : run.identity.module_flags) {
    origin.flags[flag.substr(std::min(flag.find_first_not_of('-'), flag.size()))] = value;
  }
  return worker::ExportModel(*run.module, run.table, weights, dir.export_dir(), origin);
}

}  // namespace

absl::StatusOr<ResultLine> MakeResult(const JobDirectory& dir, const RunStart& run,
                                      const JobMetrics& metrics, const EvaluationPoint& testing,
                                      Log& log) {
  ResultLine result;
  result.step = run.total;
  result.checkpoint = dir.checkpoint(run.total);
  result.validation_accuracy = metrics.validation_accuracy;
  result.test_accuracy = metrics.test_accuracy;
  absl::StatusOr<std::string> model = ExportNewest(dir, run);
  if (model.ok()) {
    result.model_path = *std::move(model);
  } else if (absl::IsUnimplemented(model.status())) {
    log.Info("no model.onnx: {}", std::string(model.status().message()));
  } else {
    return absl::Status(model.status().code(), "the model was trained but not exported: " +
                                                   std::string(model.status().message()));
  }
  if (!testing.confusion.empty()) {
    result.confusion = FormatConfusion(testing.confusion, run.module->labels());
  }
  return result;
}

}  // namespace muster::master
