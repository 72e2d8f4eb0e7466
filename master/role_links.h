// RoleLinks: the control streams to the roles that have joined.
//
// Owned by one thread (the coordinator's). Sending never blocks; a message to a role that is gone
// is dropped: its stream has said so to the queue of events (event_queue.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "master/control.pb.h"
#include "master/membership.h"
#include "rpc/transport.h"

namespace muster::master {

class RoleLinks {
 public:
  // Instead of the one that `role` had, if any. `link`: the stream's number (event_queue.h).
  void Add(const RoleId& role, std::shared_ptr<rpc::Stream> stream, int64_t link = 0);
  // Whether that is the role's stream.
  bool Has(const RoleId& role, int64_t link) const;
  // `role` has closed its stream.
  void MarkLeft(const RoleId& role);
  // Closes that of `role`, which counts as gone from now on: nobody waits for its answer.
  void Close(const RoleId& role, const absl::Status& why);
  bool all_left() const;

  void Send(const RoleId& role, const MasterMessage& message) const;
  void SendToServers(const MasterMessage& message) const;
  void SendToAll(const MasterMessage& message) const;

 private:
  struct Link {
    RoleId role;
    std::shared_ptr<rpc::Stream> stream;
    int64_t link = 0;
    bool left = false;
  };
  std::vector<Link> links_;  // in the order they joined
};

}  // namespace muster::master
