// Agent: a role's link to the master: registers, sends heartbeats, hands commands over, notices
// when the master is gone.
//
// Thread-safe. Commands arrive in order on a transport thread; the handler must not block. Owned by
// the role's main function, which destroys it last.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "master/control.pb.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"

namespace muster::master {

class Agent {
 public:
  struct Events {
    std::function<void(const MasterMessage&)> on_command;
    // The link is gone: OK after the master closed it in order, else why. At most once, last.
    std::function<void(const absl::Status&)> on_lost;
  };

  // Opens the control stream and sends `registration`. Fails when the master cannot be reached
  // within `timeout_ms` or refuses (other build, unknown role, registered twice).
  static absl::StatusOr<std::unique_ptr<Agent>> Join(rpc::Transport& transport,
                                                     const std::string& master,
                                                     const rpc::Hello& self,
                                                     const Register& registration, Events events,
                                                     int64_t timeout_ms = 60'000);
  ~Agent();

  // Queues a message to the master; a closed link drops it (on_lost has said so).
  void Send(const RoleMessage& message);
  // Reported by the next heartbeat.
  void SetClock(int64_t clock) { clock_ = clock; }

 private:
  class Handler;
  explicit Agent(Events events) : events_(std::move(events)) {}
  void HeartbeatLoop();

  const Events events_;
  std::shared_ptr<rpc::Stream> stream_;
  std::atomic<int64_t> clock_ = 0;
  Mutex mu_;
  CondVar stopped_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread heartbeat_;
};

// Packs a control message for a stream, and reads one; a payload that is no such message fails.
rpc::Message PackControl(const google::protobuf::MessageLite& message);
absl::Status UnpackControl(const rpc::Message& message, google::protobuf::MessageLite* out);

}  // namespace muster::master
