// NoticeWatch: hears from a rented machine's metadata service that the cloud takes the machine back
// (cluster/notice.h). It is asked again and again, in a process beside this one.
//
// Owned by one thread, which must be its process's only one.
#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/side_task.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

class NoticeWatch {
 public:
  // Asks at `address` for what `provider` says, with a pause between two questions. Fails when
  // there can be no process more.
  absl::Status Begin(Cluster::Provider provider, const std::string& address, int64_t pause_ms);

  void Watch(std::vector<pollfd>* fds) const;
  // When the machine ends, in Unix milliseconds; told once. Does not block.
  std::optional<int64_t> Take();

 private:
  std::unique_ptr<SideTask> asks_;  // null: nobody (any more)
};

}  // namespace muster::cluster
