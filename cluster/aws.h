// What a job says to EC2 with the command `aws`, and what that says to it: the words of each
// command, the machine's first script, the lines of its answers, its complaints.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// What cloud-init runs at each start of a machine, of UserDataOf's.
inline constexpr char kTimersAtStart[] = "/var/lib/cloud/scripts/per-boot/muster-timers";

// Tags that everything carries.
inline constexpr char kAwsJobTag[] = "muster-job";

// aws, with profile and region; what follows is the caller's.
std::vector<std::string> AwsWords(const Aws& aws, const std::string& region);

// What run-instances needs beside the order.
struct Ec2Launch {
  std::string image;  // "ami-…"
  std::string root_device;
  std::vector<std::string> security_groups;
  std::string first_script;  // UserDataOf
  bool ask_alone = false;    // --dry-run: whether it would be allowed
};
// One call for all machines of a group: all of them or none. Its client token is made of run,
// attempt and role, so a repeated call makes none twice.
std::string Ec2Token(const MachineOrder& order, const MachineGroup& group);
std::vector<std::string> RunInstancesWords(const Aws& aws, const MachineOrder& order,
                                           const MachineGroup& group, const Ec2Launch& launch);
std::vector<std::string> DescribeInstancesWords(const Aws& aws, const std::string& region,
                                                const std::string& job_id);

// What spot machines of these types have cost since then (Unix time).
std::vector<std::string> SpotPriceWords(const Aws& aws, const std::string& region,
                                        const std::set<std::string>& types, int64_t since_ms);
// Fails on what is none of its lines.
absl::StatusOr<std::vector<SpotPrice>> ParseSpotPrices(const std::string& text);

// A machine's first script: lets the launcher's key in, and turns the machine off at the end of
// its lifetime and when nobody is there (cluster/watchdog.h), which terminates it
// (--instance-initiated-shutdown-behavior terminate). Both timers begin again when the machine is
// started again, where cloud-init runs the script, as it does on Linux images of EC2; the end of
// its lifetime stays where it is.
std::string UserDataOf(const Aws& aws, const std::string& public_key, int64_t lifetime_s);

// The machines that describe-instances told of. Fails on what is none of its lines.
absl::StatusOr<std::vector<Machine>> ParseInstances(const std::string& text,
                                                    const std::string& region);

// What a failure of aws means, from its stderr: one line with what to do. Its code is
// kNoRoomInZone, kNoQuotaInRegion, Unavailable for what may pass by itself (throttling, no answer),
// AlreadyExists, PermissionDenied, Unauthenticated or FailedPrecondition.
absl::Status ExplainAws(const std::string& complaint);
// The same of an answer; OK for one that is none.
absl::Status JudgeAws(const ToolResult& result);

}  // namespace muster::cluster
