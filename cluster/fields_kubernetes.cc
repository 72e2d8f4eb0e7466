// What provider KUBERNETES does with the fields of a job file that LOCAL treats in another way.
#include "cluster/provider_fields.h"

namespace muster::cluster {
namespace {

constexpr auto kHonoured = Treatment::kHonoured;
constexpr auto kSubstituted = Treatment::kSubstituted;

constexpr const char* kAsks =
    "pods that request the type's vCPUs, memory and GPUs; the price is the catalogue's";

constexpr FieldTreatmentOf kFields[] = {
    {"trainingInput.masterType", {kSubstituted, kAsks}},
    {"trainingInput.workerType", {kSubstituted, kAsks}},
    {"trainingInput.parameterServerType", {kSubstituted, kAsks}},
    {"trainingInput.evaluatorType", {kSubstituted, "no evaluator is started, and no pod for it"}},
    {"trainingInput.workerCount", {kHonoured, "one pod each"}},
    {"trainingInput.parameterServerCount",
     {kHonoured, "one pod each; with none the coordinator keeps the weights"}},
    {"trainingInput.*Config.acceleratorConfig",
     {kHonoured,
      "each pod requests as many nvidia.com/gpu; of which type, cluster.kubernetes.nodeSelector "
      "decides"}},
    {"trainingInput.*Config.imageUri",
     {kHonoured,
      "the image of the role's pods, the master's where a role names none; it only brings files: "
      "what trains is this build"}},
    {"trainingInput.*Config.diskConfig",
     {kSubstituted, "files lie on the disk that the nodes give pods"}},
    {"trainingInput.region", {kSubstituted, "the job runs where the cluster's nodes are"}},
    {"trainingInput.jobDir",
     {kHonoured,
      "a directory of this machine, kept up to date from the master's pod while the job runs; "
      "s3:// and gs:// through this machine (docs/state.md)"}},
    {"trainingInput.scheduling.maxRunningTime",
     {kHonoured,
      "the job is stopped after it, and Kubernetes ends the pods half an hour later "
      "(activeDeadlineSeconds); seven days when absent"}},
    {"trainingInput.scheduling.maxWaitTime",
     {kHonoured,
      "a job that has not all its pods by then, its turn (cluster.limits) included, is given up; a "
      "day when absent"}},
    {"trainingInput.scheduling.priority",
     {kHonoured,
      "of the jobs that wait for cluster.limits the highest begins first; then pods have the "
      "namespace's default"}},
    {"trainingInput.scheduling.strategy",
     {kSubstituted, "what nodes cost, cluster.kubernetes.nodeSelector and tolerations decide"}},
    {"trainingInput.network",
     {kSubstituted, "roles talk at the addresses of their pods, in the cluster's network"}},
    {"trainingInput.serviceAccount",
     {kSubstituted, "pods get no key to the cluster or a cloud; roles run as the image's user"}},
    {"trainingInput.encryptionConfig",
     {kSubstituted, "files are as safe as the nodes' disks; no key service is asked"}},
    {"trainingInput.enableWebAccess", {kSubstituted, "use kubectl exec -it"}},
    {"cluster.stagingBucket", {kSubstituted, "programs and files travel over kubectl exec"}},
};

}  // namespace

std::span<const FieldTreatmentOf> KubernetesFields() { return kFields; }

}  // namespace muster::cluster
