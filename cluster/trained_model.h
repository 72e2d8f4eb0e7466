// TrainedModel: a job's module with the weights of its newest valid checkpoint, for looking at what
// was learnt. Owned and called by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cluster/resolve.h"
#include "configs/job.pb.h"
#include "kernels/device.h"
#include "telemetry/log.h"
#include "telemetry/status.h"
#include "worker/model_group.h"
#include "worker/module.h"

namespace muster::cluster {

// Makes the module that a job names.
using MakeModule = std::function<absl::StatusOr<std::unique_ptr<worker::Module>>(const Job& job)>;

// The module of the job itself; `replaced` are flags of the module, "--name=value", that take the
// place of the job's own. `bring_data` is told before of the folders that it reads, if not null.
// `resolve` is borrowed.
MakeModule JobModule(
    const ResolveOptions& resolve, std::vector<std::string> replaced = {},
    std::function<absl::Status(const std::vector<std::string>& data)> bring_data = nullptr);

class TrainedModel {
 public:
  // Reads <job_dir>/job.yaml and the checkpoint; the model computes on `threads` threads. Fails
  // with NotFound when the directory is no job's, or has no checkpoint yet; with InvalidArgument
  // when job.yaml is wrong; else naming the file and what is wrong with it. Checkpoints that are
  // newer but damaged are told in `warnings`.
  static absl::StatusOr<std::unique_ptr<TrainedModel>> Open(const std::string& job_dir,
                                                            const MakeModule& make_module,
                                                            int threads,
                                                            std::vector<std::string>* warnings);

  // Probabilities by class for one file. Fails with what is wrong with the file.
  absl::StatusOr<std::vector<double>> Predict(const std::string& path);

  // The samples of a split of the module's data, and counts of the answers to all of them.
  // `on_batch` hears how many are done and how many there are; its failure ends the evaluation.
  absl::StatusOr<worker::Confusion> Evaluate(
      worker::Split split, Log& log,
      const std::function<absl::Status(int64_t done, int64_t size)>& on_batch);

  const std::vector<std::string>& labels() const { return labels_; }  // by class
  int64_t step() const { return step_; }                              // of the checkpoint

 private:
  TrainedModel() = default;

  int64_t step_ = 0;
  uint64_t seed_ = 0;  // of the job
  std::vector<std::string> labels_;
  std::unique_ptr<worker::Module> module_;
  std::unique_ptr<Device> device_;              // outlives the model
  std::unique_ptr<worker::ModelGroup> models_;  // one
  std::vector<float> weights_;                  // arena
};

// The exit code for a command that failed with `status`: 2 when what the user named is not there or
// makes no sense, else 1.
int ExitCodeOf(const absl::Status& status);

}  // namespace muster::cluster
