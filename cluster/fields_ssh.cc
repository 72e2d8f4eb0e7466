// What provider SSH does with the fields of a job file that LOCAL treats in another way.
#include "cluster/provider_fields.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;

constexpr const char* kGivenHosts =
    "the hosts of cluster.ssh.hosts run every role; the type only prices the plan";
constexpr const char* kTrainerHosts =
    "the hosts of cluster.ssh.hosts run every role; the type prices the plan, and says how many "
    "GPUs a trainer wants";

constexpr FieldTreatmentOf kFields[] = {
    {"trainingInput.masterType", {kSubstituted, kTrainerHosts}},
    {"trainingInput.workerType", {kSubstituted, kTrainerHosts}},
    {"trainingInput.parameterServerType", {kSubstituted, kGivenHosts}},
    {"trainingInput.evaluatorType", {kSubstituted, kGivenHosts}},
    {"trainingInput.workerCount", {kHonoured, "one process each, on the hosts in turn"}},
    {"trainingInput.parameterServerCount",
     {kHonoured,
      "one process each, on the hosts after the workers'; with none the coordinator "
      "keeps the weights"}},
    {"trainingInput.*Config.acceleratorConfig",
     {kSubstituted,
      "says how many of its host's GPUs a trainer wants, where training.device lets it"}},
    {"trainingInput.*Config.diskConfig",
     {kSubstituted, "files lie on the disk of cluster.ssh.directory"}},
    {"trainingInput.region", {kSubstituted, "the job runs on the hosts of cluster.ssh.hosts"}},
    {"trainingInput.jobDir",
     {kHonoured,
      "a directory of this machine, kept up to date from the master's host while the job runs; "
      "s3:// and gs:// through this machine (docs/state.md)"}},
    {"trainingInput.network",
     {kSubstituted,
      "roles talk at the addresses at which ssh reaches their hosts, or those of "
      "cluster.ssh.hosts[].address"}},
    {"trainingInput.serviceAccount", {kSubstituted, "roles run as the user that ssh logs in as"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "files are as safe as the hosts' disks; no key service is asked"}},
    {"trainingInput.enableWebAccess", {kSubstituted, "use ssh: the hosts are yours"}},
    {"cluster.stagingBucket", {kSubstituted, "programs and files travel over ssh"}},
};

}  // namespace

std::span<const FieldTreatmentOf> SshFields() { return kFields; }

}  // namespace muster::cluster
