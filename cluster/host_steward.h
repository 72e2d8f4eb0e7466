// HostSteward: who looks after the hosts of a run while it goes on, beside the way to them: what
// they cost, and what becomes of one that is lost.
//
// Owned by whoever made the hosts; called by the launcher's main thread, and never blocks it.
#pragma once

#include <poll.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "cluster/node_link.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct RunHost {
  NodeLink::Options link;     // the way to `launch node`; without words: it is not there any more
  std::string address;        // where the job's other hosts reach it; "": as it says itself
  std::string address_field;  // of the job file, where that can be written
  std::string notices_of;     // the provider that may take it back; "": nobody does
};

// Where the job's other hosts reach `host`, which has said `hello`. Fails where it is not known.
absl::StatusOr<std::string> AddressOf(const RunHost& host, const NodeHello& hello);

class HostSteward {
 public:
  virtual ~HostSteward() = default;

  // Adds what becomes readable when there is something to do.
  virtual void Watch(std::vector<pollfd>* fds) const = 0;
  // Does what is to be done by now. To be called about once a second.
  virtual void Tick() = 0;

  // Whether a host that is lost is looked for, and replaced if need be.
  virtual bool Replaces(size_t host) const = 0;
  // Begins with it; nothing where it has begun. `ends`: the host is there, and is taken back soon;
  // else nothing is heard of it any more. PRECONDITION: Replaces.
  virtual void Replace(size_t host, bool ends) = 0;
  // Nothing is heard of the host any more, and the job ends for want of it.
  virtual void Missed(size_t host) = 0;
  // Whether what it has asked for may come at any moment.
  virtual bool IsAsking() const = 0;
  // It is there again.
  virtual void Reached(size_t host) = 0;
  // Hosts that can be reached (again), each told once, with the way there.
  virtual std::vector<std::pair<size_t, RunHost>> TakeFound() = 0;
  // Lines for the user, each told once.
  virtual std::vector<std::string> TakeMessages() = 0;
};

}  // namespace muster::cluster
