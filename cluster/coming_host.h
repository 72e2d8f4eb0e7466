// ComingHost: a host that comes to a run that goes on, in a lost one's place perhaps: it is
// connected, looked at, asked to open the job, and given the job's data.
//
// Owned by the launcher's main thread, which it never blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cluster/data_send.h"
#include "cluster/host_steward.h"
#include "cluster/node_link.h"
#include "telemetry/status.h"

namespace muster::cluster {

class ComingHost {
 public:
  struct Run {
    int64_t connect_ms = 0;  // without a sign of it, after which it does not come
    // Asks it, once it has said hello, to open the job. Fails where it will not do.
    std::function<absl::Status(const RunHost& way)> open;
    // Begins to send it the job's data; null: it has what it needs.
    std::function<absl::StatusOr<std::unique_ptr<DataSending>>(const RunHost& way)> send_data;
    std::function<void(const std::string&)> say;  // to the user
  };
  ComingHost(RunHost way, int64_t connect_ms);

  const RunHost& way() const { return way_; }
  // One turn. `opened`: it holds the job. True once it has the job's data, too; fails when it does
  // not come: the message, which may be empty, is for the user.
  absl::StatusOr<bool> Look(const NodeLink& link, bool opened, const Run& run);

 private:
  absl::StatusOr<bool> HasData(const Run& run);

  RunHost way_;
  bool asked_ = false;  // to open the job
  int64_t deadline_ms_;
  bool data_begun_ = false;
  std::unique_ptr<DataSending> data_;  // on its way; null: there is none
};

}  // namespace muster::cluster
