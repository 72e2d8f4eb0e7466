#include "cluster/provider_fields.h"

#include <fmt/format.h>

#include <array>

#include "configs/job_fields.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;
constexpr auto kRefused = Treatment::kRefused;

constexpr const char* kOneMachine = "this machine runs every role; the type only prices the plan";
constexpr const char* kGivenHosts =
    "the hosts of cluster.ssh.hosts run every role; the type only prices the plan";
constexpr const char* kTrainerMachine =
    "this machine runs every role; the type prices the plan, and says how many GPUs a trainer "
    "wants";
constexpr const char* kTrainerHosts =
    "the hosts of cluster.ssh.hosts run every role; the type prices the plan, and says how many "
    "GPUs a trainer wants";
constexpr const char* kAsksSlurm =
    "nodes with the type's vCPUs, memory and GPUs are asked of Slurm; the price is the catalogue's";
constexpr const char* kNoContainer =
    "roles are programs of this build, not containers: delete it and name a module in pythonModule";

constexpr std::array<ProviderField, 36> kFields = {{
    {"jobId", {kHonoured, "made from the job directory, or from module and time, when absent"}},
    {"labels", {kHonoured, "kept in the job directory's job.yaml"}},
    {"trainingInput.scaleTier",
     {kHonoured,
      "decides how many of each role; BASIC and BASIC_GPU run in one process. BASIC_TPU is "
      "refused"}},
    {"trainingInput.masterType",
     {kSubstituted, kTrainerMachine},
     FieldTreatment{kSubstituted, kTrainerHosts},
     FieldTreatment{kSubstituted, kAsksSlurm}},
    {"trainingInput.workerType",
     {kSubstituted, kTrainerMachine},
     FieldTreatment{kSubstituted, kTrainerHosts},
     FieldTreatment{kSubstituted, kAsksSlurm}},
    {"trainingInput.parameterServerType",
     {kSubstituted, kOneMachine},
     FieldTreatment{kSubstituted, kGivenHosts},
     FieldTreatment{kSubstituted, kAsksSlurm}},
    {"trainingInput.evaluatorType",
     {kSubstituted, kOneMachine},
     FieldTreatment{kSubstituted, kGivenHosts}},
    {"trainingInput.workerCount",
     {kHonoured, "one process each"},
     FieldTreatment{kHonoured, "one process each, on the hosts in turn"},
     FieldTreatment{kHonoured, "one node each"}},
    {"trainingInput.parameterServerCount",
     {kHonoured, "one process each; with none the coordinator keeps the weights"},
     FieldTreatment{kHonoured,
                    "one process each, on the hosts after the workers'; with none the coordinator "
                    "keeps the weights"},
     FieldTreatment{kHonoured, "one node each; with none the coordinator keeps the weights"}},
    {"trainingInput.evaluatorCount",
     {kSubstituted, "no evaluator process: the replicas share the evaluation"}},
    {"trainingInput.*Config.acceleratorConfig",
     {kSubstituted,
      "says how many of this machine's GPUs a trainer wants, where training.device lets it"},
     FieldTreatment{
         kSubstituted,
         "says how many of its host's GPUs a trainer wants, where training.device lets it"},
     FieldTreatment{
         kHonoured,
         "as many GPUs are asked for on each node (--gres); of which type, the partition decides"}},
    {"trainingInput.*Config.imageUri", {kRefused, kNoContainer}},
    {"trainingInput.*Config.containerCommand", {kRefused, kNoContainer}},
    {"trainingInput.*Config.containerArgs", {kRefused, kNoContainer}},
    {"trainingInput.*Config.diskConfig",
     {kSubstituted, "files lie on the job directory's disk"},
     FieldTreatment{kSubstituted, "files lie on the disk of cluster.ssh.directory"},
     FieldTreatment{kSubstituted, "files lie on the disk of cluster.slurm.directory"}},
    {"trainingInput.*Config.tpuTfVersion", {kRefused, "there are no TPUs here: delete it"}},
    {"trainingInput.packageUris",
     {kSubstituted, "modules are built in; no Python package is installed"}},
    {"trainingInput.pythonModule",
     {kHonoured, "names a module of this build by what stands before the first '.'"}},
    {"trainingInput.region",
     {kSubstituted, "the job runs on this machine"},
     FieldTreatment{kSubstituted, "the job runs on the hosts of cluster.ssh.hosts"},
     FieldTreatment{kSubstituted, "the job runs where Slurm's nodes are"}},
    {"trainingInput.args", {kHonoured, "the module's own flags"}},
    {"trainingInput.hyperparameters",
     {kSubstituted, "one run with the values in args: there are no studies yet"}},
    {"trainingInput.jobDir",
     {kHonoured, "a directory of this machine; gs:// and other addresses are refused"},
     FieldTreatment{kHonoured,
                    "a directory of this machine, brought up to date from the master's host when "
                    "the job ends; gs:// and other addresses are refused"},
     FieldTreatment{kHonoured,
                    "a directory of this machine, brought up to date from the master's node when "
                    "the job ends; gs:// and other addresses are refused"}},
    {"trainingInput.runtimeVersion", {kSubstituted, "this build is the runtime"}},
    {"trainingInput.pythonVersion", {kSubstituted, "this build is the runtime; nothing is Python"}},
    {"trainingInput.scheduling.maxRunningTime",
     {kHonoured, "the job is stopped after it; seven days when absent"},
     std::nullopt,
     FieldTreatment{kHonoured,
                    "the job is stopped after it, and Slurm takes the nodes back a quarter of an "
                    "hour later (--time); seven days when absent"}},
    {"trainingInput.scheduling.maxWaitTime",
     {kSubstituted, "the job starts at once"},
     std::nullopt,
     FieldTreatment{kHonoured, "a job that has no nodes by then is given up; a day when absent"}},
    {"trainingInput.scheduling.priority",
     {kSubstituted, "there is no queue"},
     std::nullopt,
     FieldTreatment{kSubstituted, "Slurm has its own: partition, account and qos decide"}},
    {"trainingInput.scheduling.resilientToWorkerRestart",
     {kSubstituted,
      "a role that ends stops the job; the same command resumes it from its last checkpoint"}},
    {"trainingInput.scheduling.strategy",
     {kSubstituted, "nothing is rented"},
     std::nullopt,
     FieldTreatment{kSubstituted,
                    "what nodes cost, the partition decides: see cluster.slurm.partition"}},
    {"trainingInput.network",
     {kSubstituted, "roles talk over this machine's loopback interface"},
     FieldTreatment{kSubstituted,
                    "roles talk at the addresses at which ssh reaches their hosts, or those of "
                    "cluster.ssh.hosts[].address"},
     FieldTreatment{kSubstituted, "roles talk at the addresses that Slurm has of its nodes"}},
    {"trainingInput.serviceAccount",
     {kSubstituted, "roles run as the user who launched them"},
     FieldTreatment{kSubstituted, "roles run as the user that ssh logs in as"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "files are as safe as the job directory's disk; no key service is asked"},
     FieldTreatment{kSubstituted, "files are as safe as the hosts' disks; no key service is asked"},
     FieldTreatment{kSubstituted,
                    "files are as safe as the nodes' disks; no key service is asked"}},
    {"trainingInput.enableWebAccess",
     {kSubstituted, "open a shell on this machine"},
     FieldTreatment{kSubstituted, "use ssh: the hosts are yours"},
     FieldTreatment{kSubstituted, "use srun --pty, or ssh where the cluster allows it"}},
    {"trainingInput.useChiefInTfConfig", {kHonoured, "TF_CONFIG says chief rather than master"}},
    {"trainingInput.nasJobSpec", {kRefused, "there is no architecture search: delete it"}},
    {"cluster.stagingBucket",
     {kSubstituted, "nothing has to be copied anywhere"},
     FieldTreatment{kSubstituted, "programs and files travel over ssh"},
     FieldTreatment{kSubstituted, "programs lie where the nodes see them; files travel over srun"}},
}};

constexpr std::array<const char*, 4> kConfigs = {"masterConfig", "workerConfig",
                                                 "parameterServerConfig", "evaluatorConfig"};

// The paths that a row stands for: itself, or one for each role.
std::vector<std::string> PathsOf(const ProviderField& field) {
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

void CheckJobDir(JobDraft* draft) {
  const std::string& dir = draft->job.training_input().job_dir();
  if (dir.find("://") == std::string::npos) return;
  draft->problems.Add(draft->origins.Find("trainingInput.jobDir"), "trainingInput.jobDir",
                      fmt::format("{} is not a directory of this machine", Quoted(dir)),
                      "write a path such as jobs/first");
}

}  // namespace

std::span<const ProviderField> ProviderFields() { return kFields; }

const ProviderField* FindProviderField(const std::string& path) {
  for (std::string p = path; !p.empty(); p = ParentPath(p)) {
    for (const ProviderField& field : ProviderFields()) {
      for (const std::string& candidate : PathsOf(field)) {
        if (candidate == p) return &field;
      }
    }
  }
  return nullptr;
}

bool IsProviderThere(Cluster::Provider provider) {
  return provider == Cluster::LOCAL || provider == Cluster::SSH || provider == Cluster::SLURM;
}

const FieldTreatment& TreatmentOf(const ProviderField& field, Cluster::Provider provider) {
  if (provider == Cluster::SSH && field.ssh) return *field.ssh;
  if (provider == Cluster::SLURM && field.slurm) return *field.slurm;
  return field.local;
}

std::vector<Substitution> CheckProviderFields(JobDraft* draft) {
  const Cluster::Provider provider = draft->job.cluster().provider();
  std::vector<Substitution> substitutions;
  for (const ProviderField& field : ProviderFields()) {
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
  CheckJobDir(draft);
  return substitutions;
}

std::string ProviderFieldsMarkdown() {
  std::string table = "| Field | LOCAL | SSH | SLURM |\n|---|---|---|---|\n";
  const auto cell = [](const FieldTreatment& done) {
    return fmt::format("{}: {}", Name(done.treatment), done.text);
  };
  for (const ProviderField& field : ProviderFields()) {
    table += fmt::format("| `{}` | {} | {} | {} |\n", field.path, cell(field.local),
                         field.ssh ? cell(*field.ssh) : "as LOCAL",
                         field.slurm ? cell(*field.slurm) : "as LOCAL");
  }
  return table;
}

}  // namespace muster::cluster
