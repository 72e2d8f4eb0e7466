#include "cluster/trained_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "configs/job_yaml.h"
#include "master/job_directory.h"
#include "master/status_line.h"
#include "ps/checkpoint.h"
#include "telemetry/check.h"
#include "worker/evaluation.h"

namespace muster::cluster {
namespace {

constexpr int64_t kBatch = 100;

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

// The job's arguments without those that `args` replace, and then `args`.
std::vector<std::string> Replaced(const TrainingInput& input, const worker::ModuleType& type,
                                  const std::vector<std::string>& args) {
  const worker::ParsedFlags given = worker::ParseModuleFlags(type, args);
  std::vector<std::string> all;
  for (const std::string& arg : input.args()) {  // "--name=value": launch wrote them
    if (!given.given.contains(arg.substr(2, arg.find('=') - 2))) all.push_back(arg);
  }
  all.insert(all.end(), args.begin(), args.end());
  return all;
}

}  // namespace

MakeModule JobModule(const ResolveOptions& resolve, std::vector<std::string> replaced,
                     std::function<absl::Status(const std::vector<std::string>& data)> bring_data) {
  return [&resolve, replaced = std::move(replaced), bring_data = std::move(bring_data)](
             const Job& job) -> absl::StatusOr<std::unique_ptr<worker::Module>> {
    const TrainingInput& input = job.training_input();
    ASSIGN_OR_RETURN(const worker::ModuleType* type, resolve.find_module(input.python_module()));
    ASSIGN_OR_RETURN(
        const worker::FlagValues flags,
        worker::ParseFlags(*type, Replaced(input, *type, replaced), /*given=*/nullptr));
    if (bring_data) RETURN_IF_ERROR(bring_data(worker::FoldersOf(*type, flags)));
    return type->make(flags);
  };
}

absl::StatusOr<std::unique_ptr<TrainedModel>> TrainedModel::Open(
    const std::string& job_dir, const MakeModule& make_module, int threads,
    std::vector<std::string>* warnings) {
  const master::JobDirectory dir(job_dir);
  ASSIGN_OR_RETURN(const Job job, ReadJob(dir));
  ASSIGN_OR_RETURN(const master::Checkpoint checkpoint, master::NewestCheckpoint(dir, warnings));

  std::unique_ptr<TrainedModel> trained(new TrainedModel);
  trained->step_ = checkpoint.step;
  trained->seed_ = job.training().seed();
  ASSIGN_OR_RETURN(trained->module_, make_module(job));
  trained->labels_ = trained->module_->labels();
  trained->device_ = MakeCpuDevice(threads);
  std::vector<std::unique_ptr<worker::Model>> models;
  models.push_back(trained->module_->MakeModel(*trained->device_));
  trained->models_ =
      std::make_unique<worker::ModelGroup>(std::move(models), /*communicator=*/nullptr);
  ASSIGN_OR_RETURN(const ps::ParamTable table, ps::ParamTable::Make(trained->models_->params()));
  ASSIGN_OR_RETURN(trained->weights_, ps::ReadFullParams(checkpoint.part_files(), table));
  RETURN_IF_ERROR(trained->models_->Prepare(table, kBatch));
  CHECK_EQ(trained->models_->model(0).num_classes(), static_cast<int64_t>(trained->labels_.size()));
  return trained;
}

absl::StatusOr<std::vector<double>> TrainedModel::Predict(const std::string& path) {
  worker::Model& model = models_->model(0);
  std::vector<float> input(model.input_size());
  RETURN_IF_ERROR(module_->ReadInput(path, input));
  const int32_t no_label = 0;
  std::vector<float> logits(labels_.size());
  model.Predict(weights_, {.inputs = input, .labels = {&no_label, 1}, .size = 1}, logits);
  return Softmax(logits);
}

absl::StatusOr<worker::Confusion> TrainedModel::Evaluate(
    worker::Split split, Log& log,
    const std::function<absl::Status(int64_t done, int64_t size)>& on_batch) {
  ASSIGN_OR_RETURN(const auto dataset, module_->MakeDataset(split, seed_, log));
  ASSIGN_OR_RETURN(auto feed, worker::MakeFeed(dataset, kBatch, models_->model(0).stream()));
  std::vector<std::unique_ptr<worker::Loader>> loaders;
  loaders.push_back(std::make_unique<worker::Loader>(
      std::move(feed), worker::EvaluationOrder(dataset->size(), /*shares=*/1, kBatch),
      worker::Loader::Options()));
  worker::LoaderGroup group(std::move(loaders));
  const std::span<const float> weights = weights_;
  return worker::Evaluate(*models_, worker::ConstArenas(&weights, 1), group, /*share=*/0,
                          [&](int64_t done) { return on_batch(done, dataset->size()); });
}

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return 0;
  return master::SaysWrongInput(status) ? 2 : 1;
}

}  // namespace muster::cluster
