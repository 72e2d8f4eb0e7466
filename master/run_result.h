// What a job that was trained to its end hands to its user: the exported model, the last
// checkpoint, how good the model is.
//
// A free function; reads and writes the job directory.
#pragma once

#include "master/history.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "master/run_start.h"
#include "master/status_line.h"
#include "telemetry/log.h"
#include "telemetry/status.h"

namespace muster::master {

// Exports the newest checkpoint's weights; a model that has no ONNX form is not exported, which
// `log` is told. `testing`: the last evaluation of the test split, empty when there was none. Fails
// when the checkpoint cannot be read or the export cannot be written. PRECONDITION: the checkpoint
// of clock `run.total` is committed.
absl::StatusOr<ResultLine> MakeResult(const JobDirectory& dir, const RunStart& run,
                                      const JobMetrics& metrics, const EvaluationPoint& testing,
                                      Log& log);

}  // namespace muster::master
