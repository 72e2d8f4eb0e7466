// What a job says to Compute Engine with the command `gcloud`, and what that says to it: the words
// of each command, the lines of its answers, its complaints.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// gcloud, with the project; what follows is the caller's.
std::vector<std::string> GcloudWords(const Gcp& gcp, const std::vector<std::string>& more);

// The label muster-job of a job: its id in lower case, cut to what a label may hold. Two jobs may
// have the same; the id itself is in the machine's metadata.
std::string GceJobLabel(const std::string& job_id);

// One call for all machines of a group: all of them or none. Their names are made of run, attempt,
// role and index, so a repeated call finds them there already and makes none twice. A machine that
// turns itself off (cluster/watchdog.h) is stopped: its disk costs until somebody deletes it, since
// Compute Engine forgets the deadline of what does not run.
std::vector<std::string> GceNames(const MachineOrder& order, const MachineGroup& group);
std::vector<std::string> BulkCreateWords(const Gcp& gcp, const MachineOrder& order,
                                         const MachineGroup& group, const std::string& public_key);

std::vector<std::string> ListInstancesWords(const Gcp& gcp, const std::string& job_id);
// The machines that it told of. Fails on what is none of its lines.
absl::StatusOr<std::vector<Machine>> ParseGceInstances(const std::string& text);

// What a region has, and allows.
struct GceRegion {
  struct Quota {
    double limit = 0, usage = 0;
  };
  std::vector<std::string> zones;
  std::map<std::string, Quota> quotas;  // by metric: "CPUS"
};
std::vector<std::string> DescribeRegionWords(const Gcp& gcp, const std::string& region);
absl::StatusOr<GceRegion> ParseGceRegion(const std::string& text);

// The quotas of the whole project, by metric. Fails on what is none of its lines.
std::vector<std::string> DescribeProjectWords(const Gcp& gcp);
absl::StatusOr<std::map<std::string, GceRegion::Quota>> ParseGceProject(const std::string& text);
// The one that all GPUs on demand count in, beside those of their kind and region.
inline constexpr char kGceGpuQuotaOfAllRegions[] = "GPUS_ALL_REGIONS";

// Lines "type<TAB>zone" of the machine types of the groups, in zones.
std::vector<std::string> MachineTypesWords(const Gcp& gcp, const std::vector<MachineGroup>& groups,
                                           const std::vector<std::string>& zones);
// An image of the disk of a machine that has stopped.
std::vector<std::string> CreateImageWords(const Gcp& gcp, const Machine& machine,
                                          const std::string& name);
// The project's images that carry the label muster-image; with a `name` the one that is called so.
std::vector<std::string> ListImagesWords(const Gcp& gcp, const std::string& name);
absl::StatusOr<std::vector<KeptImage>> ParseGceImages(const std::string& text);
// The image, its architecture.
std::vector<std::string> DescribeImageWords(const Gcp& gcp);

// The regional quota that the vCPUs of a type count in: its family's, "N2_CPUS", where the region
// has such a one, else "CPUS".
std::string GceCpuQuota(const std::string& type, const GceRegion& region);

// What an answer means; gcloud's exit code is 0 after some refusals. A failure is one line with
// what to do; its code is kNoRoomInZone, kNoQuotaInRegion, Unavailable for what may pass by itself
// (throttling, no answer), AlreadyExists, NotFound (an instance), PermissionDenied, Unauthenticated
// or FailedPrecondition.
absl::Status JudgeGcloud(const ToolResult& result);

}  // namespace muster::cluster
