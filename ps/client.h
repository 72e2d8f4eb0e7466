// Client: a worker's side of the parameter servers. Pushes gradients slice by slice, receives
// parameters into the worker's arena.
//
// Threads: Push, Pull and Wait are called by one thread (the trainer's); answers arrive on
// transport threads. All memory handed in is borrowed and must outlive the client. Bytes in flight
// are bounded per server by `credit_bytes`; credit returns at ACK, never at PARAMS.
//
// A push has a name, (replica, step, parameter): a server that has counted it only answers again.
// So after an error a program may connect anew, ask for its Clock and repeat that step.
//
// Programs that start their servers themselves open a Session (docs/client.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ps/checkpoint.h"
#include "ps/encodings.h"
#include "ps/param.h"
#include "ps/weight_arenas.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/status.h"

namespace muster::ps {

struct ClientOptions {
  // In flight per server; of each replica at least one slice always may go. 0: four of the largest
  // slices, which saturate loopback, and at least 4 MiB. On a slow link more would wait in queues
  // that other replicas' slices wait in, too.
  int64_t credit_bytes = 0;
  int64_t connect_timeout_ms = 30'000;
  std::function<bool()> given_up = nullptr;  // while it connects, as in rpc::ConnectLimit
  int64_t ack_timeout_ms = 60'000;           // a push not acknowledged by then fails the client
  // How long one Wait may take; 0: as long as the slowest replica does. Beyond it Wait fails with
  // DeadlineExceeded, which does not stay: it may be called again.
  int64_t wait_timeout_ms = 0;
};

class Client {
 public:
  // Opens one stream per server (service "params"). Fails when one cannot be reached or refuses.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      rpc::Transport& transport, const std::vector<std::string>& servers, const rpc::Hello& self,
      const ParamTable& table, const Partition& partition, ClientOptions options, Log& log);
  virtual ~Client() = default;

  // Sends replica's gradient of (param, step): `grad` has the parameter's size and stays unchanged
  // until Wait(step + 1) returned. Slices of parameters that the next forward uses first overtake
  // queued others (`priority`: lower is sooner). With `want_params` the servers answer with the
  // parameters of clock step + 1 as soon as the policy allows: set it on the process's last lease
  // of the step. Small parameters wait for company (Flush), and those of a bundle (ParamSlice) go
  // when all of them were pushed: every step has to push each parameter, or Wait fails with
  // FailedPrecondition. The gradient of a parameter with a codec is encoded here, into memory of
  // the client that the same rule holds for: a replica pushes a parameter once per step, and not
  // again before Wait(step + 1) returned.
  virtual void Push(int32_t replica, int64_t step, ParamId param, std::span<const float> grad,
                    int priority, bool want_params) = 0;
  // Lets the pushes go that wait for company. Called when a backward pass has pushed everything;
  // Wait does it too.
  virtual void Flush() = 0;
  // Asks for all parameters as a reader with `clock` (exact version `version`, or -1: whatever the
  // policy allows).
  virtual void Pull(int32_t replica, int64_t clock, int64_t version) = 0;
  // Asks for all parameters as soon as every replica has pushed `clock` steps, whatever the policy
  // allows earlier: how a run under SSP or ASYNC reads its final parameters.
  virtual void PullAtClock(int32_t replica, int64_t clock) = 0;
  // The step that `replica` pushes next: the first one that a server has not counted whole. 0 at
  // first; for a program that goes on where it, or another, was interrupted. Fails as Wait does.
  virtual absl::StatusOr<int64_t> Clock(int32_t replica) = 0;
  // Blocks until all parameters of `clock` that were asked for (by Push or Pull) are where SetArena
  // or AllocateWeights wants them, or until an error, which stays: every later call returns it.
  virtual absl::Status Wait(int64_t clock) = 0;
  // Of the last Wait that returned OK: whose parameters lie in the arena. `clock`; or, where steps
  // do without late replicas (backup workers, ps/quorum.h) and went on beyond it, the newest one,
  // with which all replicas of this client go on.
  virtual int64_t reached() const = 0;
  // Steps that did without `replica`'s gradient since its first push, as far as the client has
  // heard. Thread-safe.
  virtual int64_t missed(int32_t replica) const = 0;
  // Of the last Wait that returned OK: for how long parameters arrived; before that nothing of them
  // was there.
  virtual double last_pull_ms() const = 0;
  // An arena for gradients, all zero [table.arena_size()], each where the table has it: from it
  // Push sends as cheaply as the transport can. Its padding stays 0.
  virtual std::shared_ptr<float[]> AllocateGradients() = 0;
  // What codecs have kept back of the gradients that `replica` pushed (kernels/codec.h), copied,
  // which fails as ReplicaEncoder::BringResiduals does; and its values from a checkpoint, which
  // fails as Checkpoint::Read does. Between steps: called by Push's thread.
  virtual absl::StatusOr<std::vector<SavedSlice>> Residuals(int32_t replica) = 0;
  virtual absl::Status RestoreResiduals(int32_t replica, const Checkpoint& saved) = 0;
  // From now on `to`, which outlives the client, encodes `replica`'s gradients, into the memory
  // that this returns, and goes on with the residuals there. Push then reads no gradient of a
  // parameter with a codec: it sends the encodings, which are complete when it is called and stay
  // unchanged as a gradient does. Between steps, after RestoreResiduals; called by Push's thread.
  virtual ReplicaEncodings LeaveEncodingTo(ReplicaEncoder& to, int32_t replica) = 0;
  // Where PARAMS go: `arena` has table.arena_size() elements. What was put there stays unchanged
  // until those of the next clock are there, in whichever arena: some travel as what they changed
  // by (ps/pulled.h).
  virtual void SetArena(std::span<float> arena) = 0;
  // Instead of SetArena: what lies in memory that a server shares is read there, and the rest is
  // copied (ps/weight_arenas.h). Fails when the system has no memory left.
  virtual absl::StatusOr<std::shared_ptr<const WeightArenas>> AllocateWeights() = 0;
  // Arenas of the trainer's device, where the parameters live with it (ps/residence.h): those of
  // the newest clock are read in `weights`, and pushed is what lies in `gradients`, complete on the
  // model's stream. There is nothing to set or allocate then. Elsewhere nothing.
  struct OnDevice {
    std::span<float> weights, gradients;
  };
  virtual std::optional<OnDevice> on_device() { return std::nullopt; }
  // Makes Wait return `status` from any thread; used when the job is stopped.
  virtual void Cancel(absl::Status status) = 0;
};

// Whose servers a Session opens.
struct SessionOptions {
  std::vector<std::string> servers;  // "host:port", in the same order in all programs of the job
  std::string token;                 // MUSTER_JOB_TOKEN of the servers
  int num_replicas = 1;              // that push each step, over all programs
  int index = 0;                     // of this program, for messages
  ClientOptions client;
};

// A Client and everything it needs, for programs that talk to servers without a master: `ps
// --listen`. Link muster_client.
struct Session {
  Session() = default;
  Session(Session&&) = default;
  Session& operator=(Session&&) = delete;  // would destroy in the wrong order

  // Declares `table`, which is borrowed, at the servers and connects to them. Fails as Connect
  // does, and with FailedPrecondition when the servers hold other parameters. An error that is
  // Unavailable or DeadlineExceeded is worth another try.
  static absl::StatusOr<Session> Open(const ParamTable& table, const SessionOptions& options);

  std::unique_ptr<Log> log;  // to stderr
  std::unique_ptr<rpc::Transport> transport;
  std::unique_ptr<const Partition> partition;
  std::unique_ptr<Client> client;  // destroyed first
};

}  // namespace muster::ps
