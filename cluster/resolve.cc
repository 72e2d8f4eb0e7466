#include "cluster/resolve.h"

#include <absl/strings/str_split.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <utility>

#include "cluster/bucket_address.h"
#include "cluster/fit.h"
#include "cluster/knobs.h"
#include "cluster/rented_machine.h"
#include "configs/rules.h"
#include "configs/secrets.h"
#include "configs/tiers.h"
#include "kernels/codec.h"
#include "ps/optimizer.h"

namespace muster::cluster {
namespace {

using worker::Flag;
using worker::ModuleType;

constexpr int64_t kMaxProcesses = 1000;
constexpr int64_t kMaxRunningSeconds = 604'800;  // seven days, the service's default
constexpr int kStartTimeoutSeconds = 60;
constexpr int kSummaryInterval = 10;
constexpr int kKeptCheckpoints = 5;
constexpr int kBatchSize = 32;

// Where machines are rented, if `cluster` itself does not say.
void TakeRegion(Job* job) {
  const std::string& region = job->training_input().region();
  const auto take = [&region](auto* places) {
    if (places->regions().empty() && places->zones().empty() && !region.empty()) {
      places->add_regions(region);
    }
  };
  Cluster& cluster = *job->mutable_cluster();
  if (cluster.provider() == Cluster::AWS) take(cluster.mutable_aws());
  if (cluster.provider() == Cluster::GCP) take(cluster.mutable_gcp());
}

class Resolver {
 public:
  Resolver(const ResolveOptions& options, JobDraft* draft) : options_(options), draft_(draft) {}

  std::optional<ResolvedJob> Run() {
    CheckArgs();
    FindModule();
    CheckSchedule();
    FillTraining();
    CheckJob(options_.catalog, draft_);
    CheckProvider();
    CheckOptimizer();
    CheckBackupWorkers();
    CheckCodecs();
    if (!draft_->problems.empty()) return std::nullopt;
    FillNames();
    FillArgs();
    resolved_.job = draft_->job;
    return std::move(resolved_);
  }

 private:
  TrainingInput& input() { return *draft_->job.mutable_training_input(); }
  void Add(const std::string& path, std::string what, std::string write) {
    draft_->problems.Add(draft_->origins.Find(path), path, std::move(what), std::move(write));
  }

  // Those of the file have been looked at with the rest of it.
  void CheckArgs() {
    for (int i = 0; i < input().args_size(); ++i) {
      const std::string path = IndexPath("trainingInput.args", static_cast<size_t>(i));
      const std::optional<Secret> secret = FindSecret(input().args(i));
      if (secret && draft_->origins.Find(path).is_flag()) {
        Add(path, fmt::format("looks like {}", secret->what), kSecretAdvice);
      }
    }
  }

  void FindModule() {
    const std::string& name = input().python_module();
    if (name.empty()) return;  // CheckJob says so
    const absl::StatusOr<const ModuleType*> found = options_.find_module(name);
    if (!found.ok()) {
      return Add("trainingInput.pythonModule", std::string(found.status().message()), "");
    }
    module_ = *found;
    const std::vector<std::string> args(input().args().begin(), input().args().end());
    parsed_ = worker::ParseModuleFlags(*module_, args);
    for (const worker::FlagProblem& problem : parsed_.problems) {
      Add(IndexPath("trainingInput.args", problem.arg), problem.what, problem.write);
    }
    CheckFolders();
    MoveKnobs(*module_, parsed_, draft_);
    if (parsed_.problems.empty()) CheckModule();
  }

  // Folders of data may lie in object stores.
  void CheckFolders() {
    for (const worker::Flag& flag : module_->flags) {
      const std::string& value = parsed_.values.at(flag.name);
      if (flag.type != worker::Flag::Type::kFolder || !IsAddress(value)) continue;
      const absl::Status usable = CheckAddress(value);
      const auto arg = parsed_.given.find(flag.name);
      if (usable.ok() || arg == parsed_.given.end()) continue;
      Add(IndexPath("trainingInput.args", arg->second), std::string(usable.message()),
          fmt::format("write --{}= and a folder such as data/clips, s3://BUCKET/PATH or "
                      "gs://BUCKET/PATH",
                      flag.name));
    }
  }

  // The module knows its flags' values best; each line of its answer starts with the flag.
  void CheckModule() {
    if (module_->make == nullptr) return;
    const auto made = module_->make(parsed_.values);
    if (made.ok()) return;
    for (const std::string& line : static_cast<std::vector<std::string>>(
             absl::StrSplit(made.status().message(), '\n', absl::SkipEmpty()))) {
      std::string path = "trainingInput.args";
      for (const auto& [name, arg] : parsed_.given) {
        const std::string flag = "--" + name;
        if (line.starts_with(flag) && line.find_first_of("=: ") == flag.size()) {
          path = IndexPath(path, arg);
        }
      }
      Add(path, line, "");
    }
  }

  void CheckSchedule() {
    if (module_ == nullptr || draft_->job.training().schedule_size() > 0) return;
    if (!draft_->problems.empty()) return;  // a wrong one has been reported
    Add("training.schedule", "required: how long to train, and how fast",
        "write schedule: [{steps: 1000, learningRate: 0.1}]");
  }

  void FillTraining() {
    Training& training = *draft_->job.mutable_training();
    if (training.batch_size() == 0 && !draft_->origins.Has("training.batchSize")) {
      training.set_batch_size(kBatchSize);
    }
    training.mutable_consistency();
    if (training.optimizer().name().empty()) training.mutable_optimizer()->set_name("sgd");
    if (training.checkpoints().keep() == 0) {
      training.mutable_checkpoints()->set_keep(kKeptCheckpoints);
    }
    training.mutable_evaluation();
    FillCodec(training.mutable_codec());
    for (ParameterCodec& codec : *training.mutable_codec()->mutable_parameters()) {
      FillCodec(&codec);
    }
    if (!training.has_chief_trains()) training.set_chief_trains(true);
    if (!training.has_cuda_graphs()) training.set_cuda_graphs(true);
    if (training.summary_interval() == 0) training.set_summary_interval(kSummaryInterval);
    Cluster& cluster = *draft_->job.mutable_cluster();
    if (cluster.start_timeout_s() == 0) cluster.set_start_timeout_s(kStartTimeoutSeconds);
    if (!cluster.has_shared_memory()) cluster.set_shared_memory(true);
  }

  template <class Spec>
  void FillCodec(Spec* spec) {
    if (spec->push().empty()) spec->set_push("none");
    if (spec->pull().empty()) spec->set_pull("none");
    if (spec->push() == "topk" && spec->fraction() == 0) spec->set_fraction(kTopKFraction);
    if (spec->pull() == "topk" && spec->pull_fraction() == 0) {
      spec->set_pull_fraction(kTopKFraction);
    }
  }

  void CheckProvider() {
    const Cluster::Provider provider = draft_->job.cluster().provider();
    resolved_.substitutions = CheckProviderFields(draft_);
    if (provider == Cluster::LOCAL && draft_->job.training().device() == Training::GPU) {
      if (const absl::Status gpu = options_.find_gpu(); !gpu.ok()) {
        Add("training.device", std::string(gpu.message()), "or write AUTO or CPU");
      }
    }
    if (RentsByType(provider)) CheckRented(provider);
    CheckThatAllFits();
    int64_t processes = 2;
    for (const Role role : {Role::kWorker, Role::kParameterServer}) {
      processes += std::clamp<int64_t>(SizeOf(input(), role).count, 0, kMaxProcesses + 1);
    }
    if (processes > kMaxProcesses) {
      Add("trainingInput.workerCount", "with the parameter servers, more than a thousand processes",
          "write fewer workers and parameter servers");
    }
  }

  // Fills in where, and says which machines there are none of.
  void CheckRented(Cluster::Provider provider) {
    if (!draft_->problems.empty()) return;  // machine types may not be known
    TakeRegion(&draft_->job);
    for (const auto& [role, field] :
         {std::pair(Role::kMaster, "masterType"), std::pair(Role::kWorker, "workerType"),
          std::pair(Role::kParameterServer, "parameterServerType"),
          std::pair(Role::kEvaluator, "evaluatorType")}) {
      if (SizeOf(input(), role).count == 0) continue;
      const auto type = FindRented(provider, input(), role, options_.catalog);
      if (!type.ok()) {
        Add(fmt::format("trainingInput.{}", field), std::string(type.status().message()),
            fmt::format("write another, or a type of {}", ExampleTypeOf(provider)));
      }
    }
  }

  // Machine types and images may not be known where something else is wrong.
  void CheckThatAllFits() {
    if (!draft_->problems.empty() || !options_.build) return;
    Fit fit = CheckFit(draft_->job, *options_.build, options_.catalog);
    for (Misfit& misfit : fit.misfits) {
      Add(misfit.path, std::move(misfit.what), std::move(misfit.write));
    }
    resolved_.unknown = std::move(fit.unknown);
  }

  void CheckOptimizer() {
    const OptimizerSpec& spec = draft_->job.training().optimizer();
    const auto optimizer =
        ps::MakeOptimizer(spec.name(), {spec.params().begin(), spec.params().end()});
    const Consistency::Mode mode = draft_->job.training().consistency().mode();
    if (optimizer.ok()) {
      if (!(*optimizer)->has_trust_ratio()) return;
      if (draft_->job.training().consistency().backup_workers() > 0) {
        return Add("training.optimizer.name",
                   fmt::format("{} needs norms that the trainer of replica 0 sums up, which a step "
                               "may do without where there are backupWorkers",
                               spec.name()),
                   "write another optimizer, or delete backupWorkers");
      }
      if (mode == Consistency::BSP) return;
      return Add(
          "training.optimizer.name",
          fmt::format("{} needs norms of whole parameters, which only BSP has, and mode is {}",
                      spec.name(), Consistency::Mode_Name(mode)),
          "write mode: BSP, or another optimizer");
    }
    const bool known = std::ranges::count(ps::OptimizerNames(), spec.name()) > 0;
    Add(known ? "training.optimizer.params" : "training.optimizer.name",
        std::string(optimizer.status().message()), "");
  }

  void CheckBackupWorkers() {
    const Training& training = draft_->job.training();
    const int64_t backups = training.consistency().backup_workers();
    const int64_t replicas =
        SizeOf(input(), Role::kWorker).count + (training.chief_trains() ? 1 : 0);
    if (backups <= 0 || backups < replicas) return;
    Add("training.consistency.backupWorkers",
        fmt::format("{} of {} replicas may be late: no gradient would count", backups, replicas),
        "write a smaller number, or more workers");
  }

  void CheckCodecs() {
    const CodecSpec& spec = draft_->job.training().codec();
    const std::string path = "training.codec";
    CheckCodec(path, spec);
    for (int i = 0; i < spec.parameters_size(); ++i) {
      const std::string parameter = IndexPath(path + ".parameters", i);
      CheckCodec(parameter, spec.parameters(i));
      if (spec.parameters(i).pattern().empty()) {
        Add(parameter + ".pattern", "required: which parameters", "write a name, or *weights");
      }
    }
  }

  template <class Spec>
  void CheckCodec(const std::string& path, const Spec& spec) {
    CheckOneWay(spec.push(), path + ".push", spec.fraction(), path + ".fraction");
    const auto pull =
        CheckOneWay(spec.pull(), path + ".pull", spec.pull_fraction(), path + ".pullFraction");
    const Consistency::Mode mode = draft_->job.training().consistency().mode();
    if (!ps::SendsDeltas(pull.get()) || mode == Consistency::BSP) return;
    Add(path + ".pull",
        fmt::format("parameters are pulled as {} in differences, which only BSP has, and mode is "
                    "{}",
                    spec.pull(), Consistency::Mode_Name(mode)),
        "write mode: BSP, or pull: fp16 or bf16");
  }

  // The codec; null where there is none, or not such a one.
  std::shared_ptr<const Codec> CheckOneWay(const std::string& name, const std::string& path,
                                           double fraction, const std::string& fraction_path) {
    auto codec = MakeCodec(name, fraction);
    if (codec.ok()) return *std::move(codec);
    const bool known = std::ranges::count(CodecNames(), name) > 0;
    Add(known ? fraction_path : path, std::string(codec.status().message()), "");
    return nullptr;
  }

  // "jobs/run-1" names the job run_1, so that the same directory is the same job; else module and
  // time do.
  void FillNames() {
    std::string& id = *draft_->job.mutable_job_id();
    std::string& dir = *input().mutable_job_dir();
    if (id.empty() && !dir.empty()) {
      const std::string path = dir.substr(0, dir.find_last_not_of('/') + 1);
      id = path.substr(path.find_last_of('/') + 1).substr(0, 100);
      for (char& c : id) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      if (id.empty() || !std::isalpha(static_cast<unsigned char>(id[0]))) id = "job_" + id;
    } else if (id.empty()) {
      id = fmt::format("{}_{:%Y%m%d_%H%M%S}", module_->name,
                       fmt::gmtime(std::chrono::system_clock::to_time_t(options_.now)));
    }
    if (dir.empty()) dir = "jobs/" + id;
    auto* scheduling = input().mutable_scheduling();
    if (!scheduling->has_max_running_time()) {
      scheduling->mutable_max_running_time()->set_seconds(kMaxRunningSeconds);
    }
  }

  void FillArgs() {
    input().clear_args();
    for (const Flag& flag : module_->flags) {
      if (!flag.alias.empty()) continue;
      const std::string& value = parsed_.values.at(flag.name);
      input().add_args(fmt::format("--{}={}", flag.name, value));
      if (value != flag.default_value) {
        resolved_.changed_args.push_back(fmt::format("--{}={}", flag.name, value));
      }
    }
  }

  const ResolveOptions& options_;
  JobDraft* const draft_;
  const ModuleType* module_ = nullptr;
  worker::ParsedFlags parsed_;
  ResolvedJob resolved_;
};

}  // namespace

std::optional<ResolvedJob> ResolveJob(const ResolveOptions& options, JobDraft* draft) {
  return Resolver(options, draft).Run();
}

std::optional<Cluster> ResolveCluster(JobDraft* draft) {
  CheckCluster(draft);
  if (!draft->problems.empty()) return std::nullopt;
  TakeRegion(&draft->job);
  return draft->job.cluster();
}

}  // namespace muster::cluster
