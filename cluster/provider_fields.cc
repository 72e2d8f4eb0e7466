#include "cluster/provider_fields.h"

#include <fmt/format.h>

#include <array>

#include "cluster/bucket_address.h"
#include "cluster/rented_machine.h"
#include "configs/job_fields.h"
#include "configs/tiers.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;
constexpr auto kRefused = Treatment::kRefused;

constexpr const char* kOneMachine = "this machine runs every role; the type only prices the plan";
constexpr const char* kTrainerMachine =
    "this machine runs every role; the type prices the plan, and says how many GPUs a trainer "
    "wants";
constexpr const char* kNoContainer =
    "roles are programs of this build, not containers: delete it and name a module in pythonModule";

constexpr std::array<FieldTreatmentOf, 43> kFields = {{
    {"jobId", {kHonoured, "made from the job directory, or from module and time, when absent"}},
    {"labels", {kHonoured, "kept in the job directory's job.yaml"}},
    {"trainingInput.scaleTier",
     {kHonoured,
      "decides how many of each role; BASIC and BASIC_GPU run in one process. BASIC_TPU is "
      "refused"}},
    {"trainingInput.masterType", {kSubstituted, kTrainerMachine}},
    {"trainingInput.workerType", {kSubstituted, kTrainerMachine}},
    {"trainingInput.parameterServerType", {kSubstituted, kOneMachine}},
    {"trainingInput.evaluatorType", {kSubstituted, kOneMachine}},
    {"trainingInput.workerCount", {kHonoured, "one process each"}},
    {"trainingInput.parameterServerCount",
     {kHonoured, "one process each; with none the coordinator keeps the weights"}},
    {"trainingInput.evaluatorCount",
     {kSubstituted, "no evaluator process: the replicas share the evaluation"}},
    {"trainingInput.*Config.acceleratorConfig",
     {kSubstituted,
      "says how many of this machine's GPUs a trainer wants, where training.device lets it"}},
    {"trainingInput.*Config.imageUri", {kRefused, kNoContainer}},
    {"trainingInput.*Config.containerCommand", {kRefused, kNoContainer}},
    {"trainingInput.*Config.containerArgs", {kRefused, kNoContainer}},
    {"trainingInput.*Config.diskConfig", {kSubstituted, "files lie on the job directory's disk"}},
    {"trainingInput.*Config.tpuTfVersion", {kRefused, "there are no TPUs here: delete it"}},
    {"trainingInput.packageUris",
     {kSubstituted, "modules are built in; no Python package is installed"}},
    {"trainingInput.pythonModule",
     {kHonoured, "names a module of this build by what stands before the first '.'"}},
    {"trainingInput.region", {kSubstituted, "the job runs on this machine"}},
    {"trainingInput.args", {kHonoured, "the module's own flags"}},
    {"trainingInput.hyperparameters",
     {kSubstituted, "one run with the values in args: there are no studies yet"}},
    {"trainingInput.jobDir",
     {kHonoured,
      "a directory of this machine; s3:// and gs:// through the user's aws and gcloud "
      "(docs/state.md)"}},
    {"trainingInput.runtimeVersion", {kSubstituted, "this build is the runtime"}},
    {"trainingInput.pythonVersion", {kSubstituted, "this build is the runtime; nothing is Python"}},
    {"trainingInput.scheduling.maxRunningTime",
     {kHonoured, "the job is stopped after it; seven days when absent"}},
    {"trainingInput.scheduling.maxWaitTime",
     {kHonoured,
      "a job whose turn (cluster.limits) has not come by then is given up; a day when absent"}},
    {"trainingInput.scheduling.priority",
     {kHonoured, "of the jobs that wait for cluster.limits the highest begins first"}},
    {"trainingInput.scheduling.resilientToWorkerRestart",
     {kSubstituted,
      "a role that ends stops the job; the same command resumes it from its last checkpoint"}},
    {"trainingInput.scheduling.strategy", {kSubstituted, "nothing is rented"}},
    {"trainingInput.network", {kSubstituted, "roles talk over this machine's loopback interface"}},
    {"trainingInput.serviceAccount", {kSubstituted, "roles run as the user who launched them"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "files are as safe as the job directory's disk; no key service is asked"}},
    {"trainingInput.enableWebAccess", {kSubstituted, "open a shell on this machine"}},
    {"trainingInput.useChiefInTfConfig", {kHonoured, "TF_CONFIG says chief rather than master"}},
    {"trainingInput.nasJobSpec", {kRefused, "there is no architecture search: delete it"}},
    {"cluster.afterJob",
     {kHonoured, "TERMINATE alone: nothing is rented here, and STOP is refused"}},
    {"cluster.budget", {kRefused, "nothing is rented: delete it"}},
    {"cluster.idle",
     {kHonoured,
      "the job is ended in order when no machine has been busier for so long; of one that was "
      "left, the master's machine is looked at, and no step must have been finished"}},
    {"cluster.installDriver",
     {kHonoured, "false alone: nothing is rented here, and true is refused"}},
    {"cluster.limits",
     {kHonoured,
      "the job waits on this machine until so few of this user's jobs run with the provider"}},
    {"cluster.ports",
     {kHonoured, "master and parameter servers listen on one of them that is free"}},
    {"cluster.spot", {kRefused, "nothing is rented: delete it"}},
    {"cluster.stagingBucket", {kSubstituted, "nothing has to be copied anywhere"}},
}};

// A provider is one line here and a file of its own.
struct ProviderTable {
  Cluster::Provider provider;
  std::span<const FieldTreatmentOf> (*fields)();
};
constexpr ProviderTable kProviders[] = {
    {Cluster::LOCAL, [] { return std::span<const FieldTreatmentOf>(); }},
    {Cluster::SSH, SshFields},
    {Cluster::SLURM, SlurmFields},
    {Cluster::KUBERNETES, KubernetesFields},
    {Cluster::GCP, GcpFields},
    {Cluster::AWS, AwsFields},
};

const ProviderTable* FindTable(Cluster::Provider provider) {
  for (const ProviderTable& table : kProviders) {
    if (table.provider == provider) return &table;
  }
  return nullptr;
}

// Null where it is as LOCAL's.
const FieldTreatment* FindOwn(const ProviderTable& table, std::string_view path) {
  for (const FieldTreatmentOf& field : table.fields()) {
    if (field.path == path) return &field.treatment;
  }
  return nullptr;
}

constexpr std::array<const char*, 4> kConfigs = {"masterConfig", "workerConfig",
                                                 "parameterServerConfig", "evaluatorConfig"};

// The paths that a row stands for: itself, or one for each role.
std::vector<std::string> PathsOf(const FieldTreatmentOf& field) {
  const std::string path = field.path;
  const size_t star = path.find("*Config");
  if (star == std::string::npos) return {path};
  std::vector<std::string> paths;
  for (const char* config : kConfigs) {
    paths.push_back(path.substr(0, star) + config + path.substr(star + 7));
  }
  return paths;
}

const char* Name(Treatment treatment) {
  switch (treatment) {
    case kHonoured:
      return "honoured";
    case kSubstituted:
      return "substituted";
    case kRefused:
      return "refused";
  }
  return "";
}

// A tier that stands for a machine with a GPU.
void SubstituteGpu(const JobDraft& draft, std::vector<Substitution>* substitutions) {
  if (draft.job.training_input().scale_tier() != BASIC_GPU) return;
  const std::string path = "trainingInput.scaleTier";
  substitutions->push_back(
      {path, ToString(draft.origins.Find(path)),
       "BASIC_GPU computes on the machine's GPU where one is usable, else on its "
       "CPUs; training.device: GPU insists"});
}

// Spot machines are the workers' alone.
void SubstituteSpot(const JobDraft& draft, std::vector<Substitution>* substitutions) {
  const TrainingInput& input = draft.job.training_input();
  if (input.scheduling().strategy() != Scheduling::LOW_COST ||
      !RentsByType(draft.job.cluster().provider()) || SizeOf(input, Role::kWorker).count > 0) {
    return;
  }
  const std::string path = "trainingInput.scheduling.strategy";
  substitutions->push_back(
      {path, ToString(draft.origins.Find(path)),
       "LOW_COST makes the workers' machines spot, and there are no workers: all are on demand"});
}

void CheckJobDir(JobDraft* draft) {
  const std::string& dir = draft->job.training_input().job_dir();
  if (!IsAddress(dir)) return;
  const absl::Status usable = CheckAddress(dir);
  if (usable.ok()) return;
  draft->problems.Add(draft->origins.Find("trainingInput.jobDir"), "trainingInput.jobDir",
                      std::string(usable.message()),
                      "write a directory of this machine such as jobs/first, s3://BUCKET/PATH or "
                      "gs://BUCKET/PATH");
}

}  // namespace

std::span<const FieldTreatmentOf> ProviderFields() { return kFields; }

const FieldTreatmentOf* FindProviderField(const std::string& path) {
  for (std::string p = path; !p.empty(); p = ParentPath(p)) {
    for (const FieldTreatmentOf& field : ProviderFields()) {
      for (const std::string& candidate : PathsOf(field)) {
        if (candidate == p) return &field;
      }
    }
  }
  return nullptr;
}

const FieldTreatment& TreatmentOf(const FieldTreatmentOf& field, Cluster::Provider provider) {
  const FieldTreatment* own = FindOwn(*FindTable(provider), field.path);
  return own == nullptr ? field.treatment : *own;
}

std::vector<Substitution> CheckProviderFields(JobDraft* draft) {
  const Cluster::Provider provider = draft->job.cluster().provider();
  std::vector<Substitution> substitutions;
  for (const FieldTreatmentOf& field : ProviderFields()) {
    const FieldTreatment& done = TreatmentOf(field, provider);
    for (const std::string& path : PathsOf(field)) {
      if (done.treatment == kHonoured || !IsSet(draft->job, path)) continue;
      const Origin& origin = draft->origins.Find(path);
      if (done.treatment == kSubstituted) {
        substitutions.push_back({path, ToString(origin), done.text});
      } else {
        draft->problems.Add(
            origin, path,
            fmt::format("cannot be done by provider {}", Cluster::Provider_Name(provider)),
            done.text);
      }
    }
  }
  SubstituteGpu(*draft, &substitutions);
  SubstituteSpot(*draft, &substitutions);
  CheckJobDir(draft);
  return substitutions;
}

std::string ProviderFieldsMarkdown() {
  std::string head = "| Field |", rule = "|---|", rows;
  for (const ProviderTable& table : kProviders) {
    head += fmt::format(" {} |", Cluster::Provider_Name(table.provider));
    rule += "---|";
  }
  const auto cell = [](const FieldTreatment& done) {
    return fmt::format(" {}: {} |", Name(done.treatment), done.text);
  };
  for (const FieldTreatmentOf& field : kFields) {
    rows += fmt::format("| `{}` |{}", field.path, cell(field.treatment));
    for (const ProviderTable& table : std::span(kProviders).subspan(1)) {
      const FieldTreatment* own = FindOwn(table, field.path);
      rows += own == nullptr ? " as LOCAL |" : cell(*own);
    }
    rows += "\n";
  }
  return head + "\n" + rule + "\n" + rows;
}

}  // namespace muster::cluster
