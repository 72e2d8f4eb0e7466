#include "cluster/flag_table.h"

namespace muster::cluster {
namespace {

constexpr FlagRow kFlags[] = {
    {"--job-id", "jobId", Form::kText, "NAME", "name of the job"},
    {"--job-dir", "trainingInput.jobDir", Form::kText, "DIR",
     "where the job leaves its files; with the same one it goes on where it stopped"},
    {"--module-name", "trainingInput.pythonModule", Form::kText, "MODULE", "what to train"},
    {"--scale-tier", "trainingInput.scaleTier", Form::kTier, "TIER",
     "basic, standard-1, premium-1, basic-gpu or custom"},
    {"--region", "trainingInput.region", Form::kText, "REGION", "where to rent machines"},
    {"--labels", "labels", Form::kLabels, "K=V,...", "labels of the job"},
    {"--master-machine-type", "trainingInput.masterType", Form::kText, "TYPE", ""},
    {"--worker-machine-type", "trainingInput.workerType", Form::kText, "TYPE", ""},
    {"--parameter-server-machine-type", "trainingInput.parameterServerType", Form::kText, "TYPE",
     ""},
    {"--evaluator-machine-type", "trainingInput.evaluatorType", Form::kText, "TYPE", ""},
    {"--worker-count", "trainingInput.workerCount", Form::kText, "N", ""},
    {"--parameter-server-count", "trainingInput.parameterServerCount", Form::kText, "N", ""},
    {"--evaluator-count", "trainingInput.evaluatorCount", Form::kText, "N", ""},
    {"--master-accelerator", "trainingInput.masterConfig.acceleratorConfig", Form::kAccelerator,
     "count=N,type=T", ""},
    {"--worker-accelerator", "trainingInput.workerConfig.acceleratorConfig", Form::kAccelerator,
     "count=N,type=T", ""},
    {"--parameter-server-accelerator", "trainingInput.parameterServerConfig.acceleratorConfig",
     Form::kAccelerator, "count=N,type=T", ""},
    {"--evaluator-accelerator", "trainingInput.evaluatorConfig.acceleratorConfig",
     Form::kAccelerator, "count=N,type=T", ""},
    {"--master-image-uri", "trainingInput.masterConfig.imageUri", Form::kText, "IMAGE", ""},
    {"--worker-image-uri", "trainingInput.workerConfig.imageUri", Form::kText, "IMAGE", ""},
    {"--parameter-server-image-uri", "trainingInput.parameterServerConfig.imageUri", Form::kText,
     "IMAGE", ""},
    {"--evaluator-image-uri", "trainingInput.evaluatorConfig.imageUri", Form::kText, "IMAGE", ""},
    {"--tpu-tf-version", "trainingInput.workerConfig.tpuTfVersion", Form::kText, "VERSION", ""},
    {"--package-path", "trainingInput.packageUris", Form::kPackages, "DIR", "Python package"},
    {"--packages", "trainingInput.packageUris", Form::kPackages, "FILE,...", "Python packages"},
    {"--staging-bucket", "cluster.stagingBucket", Form::kText, "BUCKET",
     "where code for other machines is put"},
    {"--runtime-version", "trainingInput.runtimeVersion", Form::kText, "VERSION", ""},
    {"--python-version", "trainingInput.pythonVersion", Form::kText, "VERSION", ""},
    {"--max-running-time", "trainingInput.scheduling.maxRunningTime", Form::kText, "TIME",
     "stop the job after, e.g. 7200s"},
    {"--max-wait-time", "trainingInput.scheduling.maxWaitTime", Form::kText, "TIME", ""},
    {"--network", "trainingInput.network", Form::kText, "NETWORK", ""},
    {"--service-account", "trainingInput.serviceAccount", Form::kText, "ACCOUNT", ""},
    {"--enable-web-access", "trainingInput.enableWebAccess", Form::kSwitch, "", ""},
    {"--use-chief-in-tf-config", "trainingInput.useChiefInTfConfig", Form::kSwitch, "",
     "TF_CONFIG says chief rather than master"},
    {"--kms-key", "trainingInput.encryptionConfig.kmsKeyName", Form::kKmsKey, "KEY", ""},
    {"--kms-keyring", "keyRings", Form::kKmsPart, "RING", ""},
    {"--kms-location", "locations", Form::kKmsPart, "LOCATION", ""},
    {"--kms-project", "projects", Form::kKmsPart, "PROJECT", ""},
    {"--provider", "cluster.provider", Form::kText, "NAME", "LOCAL"},
    {"--device", "training.device", Form::kText, "DEVICE", "AUTO, CPU or GPU"},
    {"--consistency", "training.consistency.mode", Form::kText, "MODE", "BSP, SSP or ASYNC"},
    {"--staleness", "training.consistency.staleness", Form::kText, "N", "bound of SSP, in steps"},
    {"--backup-workers", "training.consistency.backupWorkers", Form::kText, "N",
     "replicas that a step of BSP does without"},
    {"--optimizer", "training.optimizer.name", Form::kText, "NAME", ""},
    {"--seed", "training.seed", Form::kText, "N", ""},
    {"--set", "", Form::kAssignment, "PATH=YAML",
     "any field of the job file, e.g. training.checkpoints.keep=3; may be repeated"},
    {"--stream-logs", "", Form::kFollow, "", "what launch does anyway"},
};

}  // namespace

std::span<const FlagRow> FlagTable() { return kFlags; }

const FlagRow* FindRow(const std::string& name) {
  for (const FlagRow& row : kFlags) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

bool TakesValue(Form form) { return form != Form::kSwitch && form != Form::kFollow; }

}  // namespace muster::cluster
