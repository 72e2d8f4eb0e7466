// ClientState: what a Client and the handlers of its streams share: sends pushes and questions,
// takes in what servers answer, and lets the trainer's thread wait.
//
// Thread-safe, but Push, Flush, Pull, ClockOf, Wait and what they are documented with (ps/client.h)
// are one thread's. No lock is held while a stream or the transport is called.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ps/arrivals.h"
#include "ps/bundle.h"
#include "ps/client.h"
#include "ps/encoder.h"
#include "ps/norms.h"
#include "ps/pushes.h"
#include "ps/standings.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/mutex.h"

namespace muster::ps {

class ClientState {
 public:
  ClientState(rpc::Transport& transport, const ParamTable& table, const Partition& partition,
              ClientOptions options, std::vector<std::string> addresses, Log& log);
  // Of the next server. PRECONDITION: nothing was pushed or asked for yet.
  void AddStream(std::shared_ptr<rpc::Stream> stream) { streams_.push_back(std::move(stream)); }
  // Closes all streams and returns after their last handler call, when no server borrows a gradient
  // any more.
  void Shutdown();

  // As ps::Client has them.
  void Push(int32_t replica, int64_t step, ParamId param, std::span<const float> grad, int priority,
            bool want_params);
  void Flush();
  void Pull(int32_t replica, int64_t clock, int64_t version, bool all_at_clock);
  absl::StatusOr<int64_t> ClockOf(int32_t replica);
  absl::Status Wait(int64_t clock);
  int64_t reached() const { return reached_; }
  int64_t missed(int32_t replica);
  double last_pull_ms() const { return last_pull_ms_; }
  std::shared_ptr<float[]> AllocateGradients() { return bundles_.Allocate(); }
  Encoder& encoder() { return encoder_; }
  void SetArena(std::span<float> arena);
  absl::StatusOr<std::shared_ptr<const WeightArenas>> AllocateWeights();
  // The first error stays: whoever waits, or comes later, gets it.
  void Fail(absl::Status status);

  // From the stream of `server`.
  void OnMessage(int server, const rpc::Message& message);
  void OnClosed(int server, const absl::Status& status);

  // `status` with the server's index and address in front.
  absl::Status Named(int server, const absl::Status& status) const;

 private:
  using Clock = std::chrono::steady_clock;

  void PushSlice(int32_t replica, int64_t step, int32_t id, rpc::Payload payload, int priority,
                 bool want_params);
  // Sends what the credit allows, once `least_bytes` are queued or Flush was called.
  void Pump(int server, int64_t least_bytes);
  // Sends to the server, which was begun, and to others whose turn that makes it.
  void Send(std::optional<int> to);
  // Sends each message to the server of its slice, and those for one server together.
  void SendAll(std::vector<rpc::Message> messages);
  void Sent(int server, const absl::Status& status);

  // All parameters of `clock` are here, and no earlier push borrows its gradient any more; where
  // late replicas are dropped, it is known whether ours was.
  bool Complete(int64_t clock) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The step that follows on `clock` is decided already; nothing pushed before is unacknowledged.
  bool Passed(int64_t clock) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Nothing is left to wait for before `clock`.
  bool Over(int64_t clock) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Until the parameters of `clock` are complete, or passed.
  absl::Status Await(int64_t clock, Clock::time_point limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Works for the transport, where that can use it, until there is nothing to wait for.
  void Help(int64_t clock, Clock::time_point limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whoever waits looks again.
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // When an ACK will be overdue; `limit` at the latest.
  Clock::time_point NextLook(Clock::time_point limit) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Fails when an ACK is overdue.
  void CheckAcks(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The parameters of `clock`, for which the wait began at `begin`, are complete.
  void Finish(int64_t clock, Clock::time_point begin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Late(int64_t clock) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FailLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void OnAck(int server, const rpc::Header& header);
  // The others are far ahead: asks where, once.
  void OnGone(const rpc::Header& header);
  // Passes the news on before anything else: others may wait for them.
  void OnQuorum(const rpc::Message& message);
  // Answers all slices once the norms of all are there (ps/norms.h).
  void OnNorms(const rpc::Message& message);
  void OnParams(int server, const rpc::Message& message);

  // Constant after Connect.
  rpc::Transport& transport_;
  const ParamTable& table_;
  const Partition& partition_;
  Encoder encoder_;  // Push's thread's, as is
  Bundles bundles_;
  const ClientOptions options_;
  const std::vector<std::string> addresses_;
  Log& log_;
  std::vector<std::shared_ptr<rpc::Stream>> streams_;  // by server
  double last_pull_ms_ = 0;                            // Wait's thread's
  int64_t reached_ = 0;                                // likewise
  std::vector<int32_t> passes_to_;  // a slice of each server but the arbiter (ps/quorum.h)

  Mutex mu_;
  bool helping_ ABSL_GUARDED_BY(mu_) = false;  // the thread that waits does so in the transport
  CondVar changed_;  // what Over looks at, clock_answers or closed changed
  std::vector<bool> closed_ ABSL_GUARDED_BY(mu_);  // by server: its stream
  Pushes pushes_ ABSL_GUARDED_BY(mu_);
  Arrivals arrivals_ ABSL_GUARDED_BY(mu_);
  int32_t clock_answers_ ABSL_GUARDED_BY(mu_) = 0;  // of slices, to Clock
  int64_t least_clock_ ABSL_GUARDED_BY(mu_) = 0;    // of these
  NormTotals norms_ ABSL_GUARDED_BY(mu_);
  int64_t norms_step_ ABSL_GUARDED_BY(mu_) = -1;  // the newest step of replica 0 that was pushed
  Standings standings_ ABSL_GUARDED_BY(mu_);
  int32_t reader_ ABSL_GUARDED_BY(mu_) = 0;  // the replica that asked for parameters last
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::ps
