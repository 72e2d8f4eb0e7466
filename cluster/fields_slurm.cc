// What provider SLURM does with the fields of a job file that LOCAL treats in another way.
#include "cluster/provider_fields.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;

constexpr const char* kAsksSlurm =
    "nodes with the type's vCPUs, memory and GPUs are asked of Slurm; the price is the catalogue's";

constexpr FieldTreatmentOf kFields[] = {
    {"trainingInput.masterType", {kSubstituted, kAsksSlurm}},
    {"trainingInput.workerType", {kSubstituted, kAsksSlurm}},
    {"trainingInput.parameterServerType", {kSubstituted, kAsksSlurm}},
    {"trainingInput.workerCount", {kHonoured, "one node each"}},
    {"trainingInput.parameterServerCount",
     {kHonoured, "one node each; with none the coordinator keeps the weights"}},
    {"trainingInput.*Config.acceleratorConfig",
     {kHonoured,
      "as many GPUs are asked for on each node (--gres); of which type, the partition decides"}},
    {"trainingInput.*Config.diskConfig",
     {kSubstituted, "files lie on the disk of cluster.slurm.directory"}},
    {"trainingInput.region", {kSubstituted, "the job runs where Slurm's nodes are"}},
    {"trainingInput.jobDir",
     {kHonoured,
      "a directory of this machine, kept up to date from the master's node while the job runs; "
      "s3:// and gs:// through this machine (docs/state.md)"}},
    {"trainingInput.scheduling.maxRunningTime",
     {kHonoured,
      "the job is stopped after it, and Slurm takes the nodes back half an hour "
      "later (--time); seven days when absent"}},
    {"trainingInput.scheduling.maxWaitTime",
     {kHonoured,
      "a job that has no nodes by then, its turn (cluster.limits) included, is given up; a day "
      "when absent"}},
    {"trainingInput.scheduling.priority",
     {kHonoured,
      "of the jobs that wait for cluster.limits the highest begins first; then partition, account "
      "and qos decide"}},
    {"trainingInput.scheduling.strategy",
     {kSubstituted, "what nodes cost, the partition decides: see cluster.slurm.partition"}},
    {"trainingInput.network",
     {kSubstituted, "roles talk at the addresses that Slurm has of its nodes"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "files are as safe as the nodes' disks; no key service is asked"}},
    {"trainingInput.enableWebAccess",
     {kSubstituted, "use srun --pty, or ssh where the cluster allows it"}},
    {"cluster.stagingBucket",
     {kSubstituted, "programs lie where the nodes see them; files travel over srun"}},
};

}  // namespace

std::span<const FieldTreatmentOf> SlurmFields() { return kFields; }

}  // namespace muster::cluster
