// The deadline of EC2 machines that AWS itself holds, where the job file names a role for it
// (cluster.aws.schedulerRole): an entry of EventBridge Scheduler for each machine, which terminates
// it, whatever has become of launcher and machine, and is gone then. One for each, because
// terminate-instances does nothing at all when one of its ids has been gone for an hour.
//
// Borrows what it is given; as thread-safe as that.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/cloud_tool.h"
#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// "muster-JOB-1a2b3c4d-i-0123456789abcdef0": at most 64 characters, whatever the job is called; the
// job's entries, and no other job's, begin with DeadlinePrefix.
std::string DeadlinePrefix(const std::string& job_id);
std::string DeadlineName(const std::string& job_id, const std::string& instance);

std::vector<std::string> CreateDeadlineWords(const Aws& aws, const MachineOrder& order,
                                             const std::string& instance, int64_t at_ms);
std::vector<std::string> ListDeadlinesWords(const Aws& aws, const std::string& region,
                                            const std::string& job_id);
std::vector<std::string> DeleteDeadlineWords(const Aws& aws, const std::string& region,
                                             const std::string& name);

// All of it does nothing without a role.
class Ec2Deadlines {
 public:
  Ec2Deadlines(const Aws& aws, const CloudTool& tool, const Patience& patience)
      : aws_(aws), tool_(tool), patience_(patience) {}

  // Whether entries may be looked at, as far as that can be asked before there is a machine.
  absl::Status Check(const std::string& region, const std::string& job_id) const;
  // The machines of `order`, which were just made, end with its lifetime. `before` as Create has
  // it.
  absl::Status Set(const MachineOrder& order, const std::vector<std::string>& instances,
                   const std::function<absl::Status(const std::string& name)>& before) const;
  // Removes all of a job.
  absl::Status Remove(const std::string& region, const std::string& job_id) const;

 private:
  const Aws& aws_;
  const CloudTool& tool_;
  const Patience& patience_;
};

}  // namespace muster::cluster
