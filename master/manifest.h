// Manifest: what <job-dir>/checkpoints/step-N/manifest.json holds. It is written last, by rename,
// and is the commit of the checkpoint.
//
// Value types, thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/status.h"

namespace muster::master {

inline constexpr int kManifestSchemaVersion = 1;

// Everything that the weights at a step are a function of. Each field is named in messages as the
// job file names it.
struct RunIdentity {
  int replicas = 0;  // V
  uint64_t seed = 0;
  std::string module;                               // "speech_commands"
  std::map<std::string, std::string> module_flags;  // those that no `training:` knob stands for
  std::string model_fingerprint;                    // of names, shapes and kinds of the parameters
  std::string data_fingerprint;  // of the list of samples; empty: not known, not compared
  int64_t batch_size = 0;
  std::string consistency;  // "BSP", "SSP" …
  int64_t staleness = 0;
  bool scale_by_staleness = false;
  int backup_workers = 0;
  std::string optimizer;
  std::map<std::string, double> optimizer_params;
  double weight_decay = 0;
  double clip_value = 0;
  double clip_norm = 0;
  std::string codec = "none";  // training.codec (configs/codec_text.h)
  struct Stage {
    int64_t steps = 0;
    double learning_rate = 0;
    std::optional<double>
        end_learning_rate;  // absent: the rate stays, and the next two mean nothing
    std::string shape;      // "LINEAR", "COSINE", "POLYNOMIAL"
    double power = 0;       // of POLYNOMIAL
    bool operator==(const Stage&) const = default;
  };
  std::vector<Stage> schedule;

  // These change rounding, not the mathematics.
  std::string build_id;
  // What its trainers compute on, and in which precision (TrainerDevice::kind), " and " between
  // those that differ; "": not known yet.
  std::string device;
};

struct ManifestPart {
  std::string file;  // within the checkpoint's folder
  int64_t bytes = 0;
};

struct Manifest {
  int64_t step = 0;  // the clock of the cut
  int64_t created_ms = 0;
  std::vector<ManifestPart> parts;      // by server
  std::vector<ManifestPart> residuals;  // by replica; empty where codecs keep nothing back
  std::map<std::string, double>
      metrics;        // at that step, as far as measured: train_loss, validation_accuracy
  bool exact = true;  // false: pushes may be applied twice on resume (SSP, ASYNC),
                      // or residuals were lost before
  RunIdentity identity;
};

std::string EncodeManifest(const Manifest& manifest);
// Takes unknown fields; fails on text that is not JSON (truncated …), a missing or ill-typed field,
// or a newer schemaVersion.
absl::StatusOr<Manifest> DecodeManifest(std::string_view text);

// May a run with identity `now` go on from `manifest`? Fails with FailedPrecondition that names
// every changed field with both values, all at once. The schedule is compared up to the
// checkpoint's step only: a longer or different future is allowed, another past is not. Changes
// that alter rounding alone (build, device) do not fail: one text each in `warnings`;
// the run is then not bit-identical.
absl::Status CheckResume(const Manifest& manifest, const RunIdentity& now,
                         std::vector<std::string>* warnings);

}  // namespace muster::master
