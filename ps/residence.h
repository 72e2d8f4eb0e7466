// Residence: where the server and the only trainer of a process meet, when the parameters live in
// the memory of the trainer's device. Instead of messages, slices and shards:
//
//   Push of the last parameter   the device is asked whether the gradient is finite
//   Flush                        if it is, the optimizer's step is enqueued (ps/device_values.h),
//                                and the clock goes on; cuts of that clock are copied
//   Wait                         nothing to wait for
//
// So no gradient and no parameter crosses to the host in a step, and weights are read where they
// were updated. BSP with one replica, updates without norms, no codecs; the same bits as a shard's
// on the host. While no client is connected, the values are on the host.
//
// Thread-safe. Shared by the server and the client, either of which may go first: then the other's
// calls fail.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernels/stream.h"
#include "ps/client.h"
#include "ps/counters.h"
#include "ps/cut.h"
#include "ps/device_values.h"
#include "ps/server.h"
#include "telemetry/mutex.h"

namespace muster::ps {

class Residence {
 public:
  // On the device of that name.
  explicit Residence(std::string device);
  ~Residence();
  const std::string& device() const { return device_; }

  // As Server::Make, of which it is a part. PRECONDITION: what the class comment asks for; once.
  static std::unique_ptr<Server> MakeServer(std::shared_ptr<Residence> residence,
                                            const ParamTable& table, const Partition& partition,
                                            const ConsistencyPolicy& policy,
                                            const Optimizer& optimizer, Schedule schedule,
                                            ServerOptions options, ServerEvents events);
  // The client of a model that computes on `compute`, for the thread that owns that stream. The
  // server has its values. One at a time. Fails when there is no server, or the device has no room.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(std::shared_ptr<Residence> residence,
                                                         Stream& compute);

 private:
  class ServerSide;
  class ClientSide;

  struct Served;  // what the server is made of

  // The server's: the first values, or the checkpoint's where that is not null.
  absl::Status Load(const Checkpoint* checkpoint);
  void CutAt(int64_t clock, const std::string& directory);
  void Close();

  // The client's.
  absl::StatusOr<std::unique_ptr<DeviceValues>> Attach(Stream& compute);
  void Detach();
  // PRECONDITION: AskFinite was called for the gradient of this step.
  absl::Status Step();
  int64_t clock();

  StepInfo InfoOfStep() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Which slice's gradient is not finite.
  absl::Status NonFinite() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReachCuts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CopyTo(SavedSlice& saved) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string device_;
  ServerCounters counters_;
  Mutex mu_;
  std::unique_ptr<Served> served_ ABSL_GUARDED_BY(mu_);  // null: no server, or no more
  int64_t clock_ ABSL_GUARDED_BY(mu_) = 0;               // and version
  DeviceValues* values_ ABSL_GUARDED_BY(mu_) = nullptr;  // the client's; null: none is connected
  SavedSlice host_ ABSL_GUARDED_BY(mu_);                 // the values while that is null
  std::multimap<int64_t, std::shared_ptr<Cut>> pending_ ABSL_GUARDED_BY(mu_);  // cuts, by clock
  absl::Status given_up_ ABSL_GUARDED_BY(mu_);  // why no step is taken any more
};

}  // namespace muster::ps
