// LauncherConnection: a keeper's way to the one launcher that it serves at a time. Takes the first
// that comes to the socket, tells others who that is, reads its requests, and writes to it what
// waits.
//
// Owned by one thread. Borrows the listening socket.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/node.pb.h"
#include "cluster/node_wire.h"
#include "cluster/outbox.h"
#include "telemetry/status.h"

namespace muster::cluster {

class LauncherConnection {
 public:
  struct Handlers {
    // One that fails is told why, and is gone.
    std::function<absl::Status(const NodeRequest&)> on_request;
    // Whether whoever comes now finds nothing here any more: nobody is let in.
    std::function<bool()> is_over;
    // `name` "is gone", or the like; already without it.
    std::function<void(const std::string& name, const char* why)> on_gone;
  };
  LauncherConnection(int listener, int64_t silence_ms, Handlers handlers)
      : listener_(listener), silence_ms_(silence_ms), handlers_(std::move(handlers)) {}
  ~LauncherConnection();
  LauncherConnection(const LauncherConnection&) = delete;
  LauncherConnection& operator=(const LauncherConnection&) = delete;

  bool is_there() const { return fd_ >= 0; }
  // Whether one has ever come.
  bool came() const { return came_; }
  // The job was opened to it.
  bool accepted() const { return accepted_; }
  void Accept(const std::string& name);

  // Nothing where there is none.
  void Send(const NodeEvent& event);
  size_t waiting_bytes() const { return outbox_.size(); }

  void Watch(std::vector<pollfd>* fds) const;
  // Without blocking: reads what it says, and lets another in.
  void Read();
  // Writes what it takes; gives it up when it is gone, or silent for too long.
  void Write();

 private:
  void Hear();
  void LetIn();
  void Drop(const char* why);

  const int listener_;
  const int64_t silence_ms_;
  const Handlers handlers_;
  bool came_ = false;
  int fd_ = -1;
  std::string name_;
  bool accepted_ = false;
  int64_t heard_ms_ = 0;
  FrameReader reader_;
  Outbox outbox_;
};

}  // namespace muster::cluster
