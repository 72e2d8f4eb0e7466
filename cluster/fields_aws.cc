// What provider AWS does with the fields of a job file that LOCAL treats in another way.
#include "cluster/provider_fields.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;
constexpr auto kRefused = Treatment::kRefused;

constexpr const char* kType =
    "EC2's own types as they are; for the others the cheapest with at least their vCPUs, memory "
    "and "
    "GPUs, as the plan shows";
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
     {kHonoured, "a type with at least so many GPUs: T4 for K80 and P4, A10G for P100 and V100"}},
    {"trainingInput.*Config.diskConfig",
     {kSubstituted, "the disk is the image's, or of cluster.aws.diskGb"}},
    {"trainingInput.region",
     {kHonoured, "a region of AWS's, where neither cluster.aws.regions nor zones is written"}},
    {"trainingInput.jobDir",
     {kHonoured,
      "a directory of this machine, kept up to date from the master's machine while the job runs; "
      "s3:// and gs:// through this machine (docs/state.md)"}},
    {"trainingInput.scheduling.maxRunningTime",
     {kHonoured,
      "the job is stopped after it, and the machines turn themselves off half an hour later; seven "
      "days when absent"}},
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
     {kSubstituted, "roles talk at their machines' private addresses: see cluster.aws.subnet"}},
    {"trainingInput.serviceAccount",
     {kRefused, "machines hold no credentials of the cloud: delete it"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "disks are encrypted as the account's default says"}},
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
    {"cluster.spot",
     {kHonoured,
      "a machine that costs more an hour is not to be had, and one whose price rises above it is "
      "taken away"}},
    {"cluster.stagingBucket", {kSubstituted, "programs and files travel over ssh"}},
};

}  // namespace

std::span<const FieldTreatmentOf> AwsFields() { return kFields; }

}  // namespace muster::cluster
