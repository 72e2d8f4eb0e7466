// RoleLinks: the control streams to the roles that have joined.
//
// Owned by one thread (the coordinator's). Sending never blocks; a message to a role that is gone
// is dropped: its stream has said so to the queue of events (event_queue.h).
#pragma once

#include <memory>
#include <vector>

#include "master/control.pb.h"
#include "master/membership.h"
#include "rpc/transport.h"

namespace muster::master {

class RoleLinks {
 public:
  void Add(const RoleId& role, std::shared_ptr<rpc::Stream> stream);
  // `role` has closed its stream.
  void MarkLeft(const RoleId& role);
  bool all_left() const;

  void Send(const RoleId& role, const MasterMessage& message) const;
  void SendToTrainers(const MasterMessage& message) const;
  void SendToServers(const MasterMessage& message) const;
  void SendToAll(const MasterMessage& message) const;

 private:
  struct Link {
    RoleId role;
    std::shared_ptr<rpc::Stream> stream;
    bool left = false;
  };
  std::vector<Link> links_;  // in the order they joined
};

}  // namespace muster::master
