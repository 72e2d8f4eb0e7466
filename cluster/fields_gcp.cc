// What provider GCP does with the fields of a job file that LOCAL treats in another way.
#include "cluster/provider_fields.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;
constexpr auto kRefused = Treatment::kRefused;

constexpr const char* kType =
    "Compute Engine's own types as they are, legacy ones by their shape; GPUs that are gone have "
    "stand-ins, as the plan shows";
constexpr const char* kMachine = "one machine each";

constexpr FieldTreatmentOf kFields[] = {
    {"trainingInput.masterType", {kHonoured, kType}},
    {"trainingInput.workerType", {kHonoured, kType}},
    {"trainingInput.parameterServerType", {kHonoured, kType}},
    {"trainingInput.evaluatorType",
     {kSubstituted, "no evaluator is started, and no machine for it"}},
    {"trainingInput.workerCount", {kHonoured, kMachine}},
    {"trainingInput.parameterServerCount",
     {kHonoured, "one machine each; with none the coordinator keeps the weights"}},
    {"trainingInput.*Config.acceleratorConfig",
     {kHonoured,
      "at least so many GPUs: T4 for K80, P4 and P100, L4 for V100 and where more than four "
      "are wanted"}},
    {"trainingInput.*Config.diskConfig",
     {kSubstituted, "the disk is the image's, or of cluster.gcp.diskGb"}},
    {"trainingInput.region",
     {kHonoured,
      "a region of Google Cloud, where neither cluster.gcp.regions nor zones is written"}},
    {"trainingInput.jobDir",
     {kHonoured,
      "a directory of this machine, kept up to date from the master's machine while the job runs; "
      "s3:// and gs:// through this machine (docs/state.md)"}},
    {"trainingInput.scheduling.maxRunningTime",
     {kHonoured,
      "the job is stopped after it, and Compute Engine deletes the machines half an hour later; "
      "seven days when absent"}},
    {"trainingInput.scheduling.maxWaitTime",
     {kHonoured,
      "a job that has no machines by then, its turn (cluster.limits) included, is given up; a day "
      "when absent"}},
    {"trainingInput.scheduling.strategy",
     {kHonoured,
      "LOW_COST: the workers' machines are spot; the master and the servers, which hold "
      "checkpoints "
      "and parameters, stay on demand"}},
    {"trainingInput.network",
     {kSubstituted, "roles talk at their machines' private addresses: see cluster.gcp.network"}},
    {"trainingInput.serviceAccount",
     {kRefused, "machines hold no credentials of the cloud: delete it"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "disks are encrypted as Google does by default"}},
    {"trainingInput.enableWebAccess",
     {kSubstituted, "use ssh, with the key beside the job's journal in ~/.muster/machines"}},
    {"cluster.afterJob",
     {kHonoured,
      "TERMINATE: the machines go, with their disks; STOP: those that are not spot stop, and their "
      "disks stay and cost until launch gc --stopped JOB"}},
    {"cluster.budget",
     {kHonoured, "the job saves a checkpoint and its machines go before they have cost so much"}},
    {"cluster.installDriver",
     {kHonoured,
      "true: NVIDIA's driver is installed on machines with GPUs where it is missing or too old"}},
    {"cluster.spot", {kRefused, "Compute Engine takes no bids: delete it"}},
    {"cluster.stagingBucket", {kSubstituted, "programs and files travel over ssh"}},
};

}  // namespace

std::span<const FieldTreatmentOf> GcpFields() { return kFields; }

}  // namespace muster::cluster
