// EventQueue: what happens to a coordinator, from the streams of its roles and from whoever runs
// it, in one order.
//
// Thread-safe, with one reader. Shared by the coordinator and the handlers of its roles' streams,
// since a stream may close after the coordinator is gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <variant>

#include "master/control.pb.h"
#include "master/file_service.h"
#include "master/membership.h"
#include "rpc/transport.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"

namespace muster::master {

// A role opened its control stream; said something on it; is gone (why: OK when it closed the
// stream in order). `link`: the stream's number, by which a role's streams are told apart.
struct RoleJoined {
  RoleId role;
  std::shared_ptr<rpc::Stream> stream;
  int64_t link = 0;
};
struct RoleSaid {
  RoleId role;
  RoleMessage message;
  int64_t link = 0;
};
struct RoleLeft {
  RoleId role;
  absl::Status status;
  int64_t link = 0;
};
// Somebody wants the run to stop.
struct Interrupted {
  std::string reason;
};
// A role that lives in this process could not go on.
struct Broken {
  absl::Status status;
};
// Nothing, for a while.
struct Tick {};
using Event = std::variant<Tick, RoleJoined, RoleSaid, RoleLeft, Interrupted, Broken>;

class EventQueue {
 public:
  void Put(Event event);
  // The next event, or Tick when none came within `patience`.
  Event Take(std::chrono::milliseconds patience);

 private:
  Mutex mu_;
  CondVar arrived_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
};

// Listens on `address` for roles and puts what they do into `queue`; `files` (borrowed) serves
// those that want the job's files. Who is no role of any job, or wants another service, is refused.
// Fails when the address is taken.
absl::StatusOr<std::unique_ptr<rpc::Listener>> ListenForRoles(rpc::Transport& transport,
                                                              const std::string& address,
                                                              const rpc::Hello& self,
                                                              std::shared_ptr<EventQueue> queue,
                                                              FileService& files);

}  // namespace muster::master
