#include "cluster/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "configs/job_yaml.h"
#include "master/job_directory.h"
#include "ps/checkpoint.h"
#include "telemetry/check.h"

namespace muster::cluster {
namespace {

constexpr size_t kTop = 3;  // labels per file

absl::StatusOr<Job> ReadJob(const master::JobDirectory& dir) {
  std::error_code error;
  if (!std::filesystem::exists(dir.job_yaml(), error)) {
    return absl::NotFoundError(
        fmt::format("{} is not a job's directory: there is no {}; write --job-dir=<the directory "
                    "that launch named>",
                    dir.root(), dir.job_yaml()));
  }
  JobDraft draft;
  ReadJobFile(dir.job_yaml(), &draft);
  if (!draft.problems.empty()) {
    return absl::InvalidArgumentError(draft.problems.Text());
  }
  return std::move(draft.job);
}

// p_c = e^(z_c − max z) / Σ_k e^(z_k − max z), in float64.
std::vector<double> Softmax(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  std::vector<double> probabilities;
  for (const float logit : logits) probabilities.push_back(std::exp(double{logit} - top));
  const double sum = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  for (double& p : probabilities) p /= sum;
  return probabilities;
}

// "yes        97.9 %   no          1.3 %   …"
std::string FormatTop(std::span<const double> probabilities, const std::vector<std::string>& labels,
                      size_t label_width) {
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });
  std::string text;
  for (size_t i = 0; i < std::min(kTop, order.size()); ++i) {
    text += fmt::format("   {:<{}} {:5.1f} %", labels[order[i]], label_width,
                        100 * probabilities[order[i]]);
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Predictor>> Predictor::Open(const std::string& job_dir,
                                                           const MakeModule& make_module,
                                                           std::vector<std::string>* warnings) {
  const master::JobDirectory dir(job_dir);
  ASSIGN_OR_RETURN(const Job job, ReadJob(dir));
  ASSIGN_OR_RETURN(const master::Checkpoint checkpoint, master::NewestCheckpoint(dir, warnings));

  std::unique_ptr<Predictor> predictor(new Predictor);
  predictor->step_ = checkpoint.step;
  ASSIGN_OR_RETURN(predictor->module_, make_module(job));
  predictor->labels_ = predictor->module_->labels();
  predictor->device_ = MakeCpuDevice(1);
  predictor->model_ = predictor->module_->MakeModel(*predictor->device_);
  ASSIGN_OR_RETURN(const ps::ParamTable table, ps::ParamTable::Make(predictor->model_->params()));
  ASSIGN_OR_RETURN(predictor->weights_, ps::ReadFullParams(checkpoint.part_files(), table));
  predictor->model_->Prepare(table, /*max_batch=*/1);
  CHECK_EQ(predictor->model_->num_classes(), static_cast<int64_t>(predictor->labels_.size()));
  return predictor;
}

absl::StatusOr<std::vector<double>> Predictor::Predict(const std::string& path) {
  std::vector<float> input(model_->input_size());
  RETURN_IF_ERROR(module_->ReadInput(path, input));
  const int32_t no_label = 0;
  std::vector<float> logits(labels_.size());
  model_->Predict(weights_, {.inputs = input, .labels = {&no_label, 1}, .size = 1}, logits);
  return Softmax(logits);
}

int RunPredict(const std::string& job_dir, std::span<const std::string> files,
               const MakeModule& make_module, std::FILE* out, std::FILE* err) {
  std::vector<std::string> warnings;
  auto predictor = Predictor::Open(job_dir, make_module, &warnings);
  for (const std::string& warning : warnings) fmt::print(err, "{}\n", warning);
  if (!predictor.ok()) {
    fmt::print(err, "{}\n", std::string(predictor.status().message()));
    return absl::IsNotFound(predictor.status()) || absl::IsInvalidArgument(predictor.status()) ? 2
                                                                                               : 1;
  }
  size_t file_width = 0;
  for (const std::string& file : files) file_width = std::max(file_width, file.size());
  size_t label_width = 0;
  for (const std::string& label : (*predictor)->labels()) {
    label_width = std::max(label_width, label.size());
  }
  int exit_code = 0;
  for (const std::string& file : files) {
    const auto probabilities = (*predictor)->Predict(file);
    if (probabilities.ok()) {
      fmt::print(out, "{:<{}}{}\n", file, file_width,
                 FormatTop(*probabilities, (*predictor)->labels(), label_width));
    } else {
      fmt::print(err, "{}\n", std::string(probabilities.status().message()));
      exit_code = 1;
    }
  }
  return exit_code;
}

}  // namespace muster::cluster
