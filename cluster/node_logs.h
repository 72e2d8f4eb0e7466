// NodeLogs: the logs of a host's roles, as they are sent to a launcher piece by piece.
//
// Owned by one thread. What has not been sent lies in the logs themselves, so nothing is kept here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "cluster/node.pb.h"

namespace muster::cluster {

class NodeLogs {
 public:
  using Send = std::function<void(const NodeEvent&)>;

  // Role `role` is about to be started: what it writes into the file at `path` begins at its
  // present end. `wanted`: the launcher has another file for it.
  void Add(int64_t role, const std::string& path, bool wanted);
  // Nobody listens any more.
  void Pause();
  // Whoever listens has `received` bytes of what the role has written.
  void Follow(int64_t role, int64_t received);
  bool following() const;

  // Sends the next part of each log that has grown.
  void SendNew(const Send& send);
  // The same of one log, to its end.
  void SendRest(int64_t role, const Send& send);

 private:
  struct Tail {
    std::string path;
    int64_t begin = 0, offset = 0;
    bool followed = false;
  };
  // False when there is nothing to send.
  static bool SendPart(int64_t role, Tail& tail, const Send& send);

  std::map<int64_t, Tail> tails_;  // by role
};

}  // namespace muster::cluster
