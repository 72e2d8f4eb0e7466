// `launch predict --job-dir D clip.wav…`: what a trained model makes of files.
//
// Predictor is owned and called by one thread. RunPredict is thread-safe for different streams.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "kernels/device.h"
#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::cluster {

// Finds the module that a job names; master::MakeModuleOf outside tests.
using MakeModule = std::function<absl::StatusOr<std::unique_ptr<worker::Module>>(const Job& job)>;

// A job's module with the weights of its newest valid checkpoint.
class Predictor {
 public:
  // Reads <job_dir>/job.yaml and the checkpoint. Fails with NotFound when the directory is no
  // job's, or has no checkpoint yet; with InvalidArgument when job.yaml is wrong; else naming the
  // file and what is wrong with it. Checkpoints that are newer but damaged are told in `warnings`.
  static absl::StatusOr<std::unique_ptr<Predictor>> Open(const std::string& job_dir,
                                                         const MakeModule& make_module,
                                                         std::vector<std::string>* warnings);

  // Probabilities by class for one file. Fails with what is wrong with the file.
  absl::StatusOr<std::vector<double>> Predict(const std::string& path);

  const std::vector<std::string>& labels() const { return labels_; }  // by class
  int64_t step() const { return step_; }                              // of the checkpoint

 private:
  Predictor() = default;

  int64_t step_ = 0;
  std::vector<std::string> labels_;
  std::unique_ptr<worker::Module> module_;
  std::unique_ptr<Device> device_;  // outlives model_
  std::unique_ptr<worker::Model> model_;
  std::vector<float> weights_;  // arena
};

// Prints one line per file to `out`: its name, the three likeliest labels and their probabilities;
// for a file that cannot be read one line to `err` instead. Returns the exit code: 0, 1 when a file
// or a checkpoint is bad, 2 when `job_dir` is not a job's directory or has nothing to predict with.
int RunPredict(const std::string& job_dir, std::span<const std::string> files,
               const MakeModule& make_module, std::FILE* out, std::FILE* err);

}  // namespace muster::cluster
