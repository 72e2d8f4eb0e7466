// The parameter-server messages: PUSH, ACK, PULL, PARAMS, NORMS, TOTALS, ARRIVED, QUORUM and ERROR
// as rpc::Message, and the checks that one must pass before anything believes it.
//
// Pure functions over messages: thread-safe. Gradients and parameters travel as little-endian
// float32, where a parameter has a codec for them as its encoding; a payload may come in any
// number of byte ranges, which may split a float. Nothing here copies a payload.
//
//   PUSH    worker → server  slice, replica, step; flags kWantParams, and kHoldsParams: the worker
//                            holds the slice's parameters of clock `step`; payload: the gradient
//   ACK     server → worker  echoes the push; code: an AckCode. With kTellArrived: the server wants
//                            an ARRIVED once all slices of the step are acknowledged
//   PULL    worker → server  slice, replica, step = the clock that reads; flags kAllAtClock;
//                            version = the exact version, or -1.
//                            With kAskClock: only the replica's clock, in the `step` of an ACK.
//                            An ACK of code kGone: that version is no longer there
//   PARAMS  server → worker  slice, replica, step = that clock, version = applies behind them;
//                            payload: the parameters; with kDelta what is to be added to those of
//                            the clock before (ps/pulled.h), which the push said were there
//   NORMS   server → worker  slice, replica = 0, step; code: a NormRound; payload: sums of squares
//                            (ps/norms.h) of a step whose gradients are all in, as float64
//   TOTALS  worker → server  echoes the NORMS; payload: what those of all slices add up to
//   ARRIVED worker → server  slice = 0, replica, step (ps/quorum.h)
//   QUORUM  either way       step; payload: the replicas that it counts, a bit each; slice: one of
//                            the server's
//   ERROR   server → worker  echoes what it answers; code: an absl::StatusCode; payload: the text
#pragma once

#include <absl/functional/function_ref.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "ps/norms.h"
#include "ps/param.h"
#include "ps/quorum.h"
#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::ps {

// What became of a push: Header::code of its ACK.
enum class AckCode : uint16_t {
  kConsumed = 0,  // added to the sum or applied
  kHeld = 1,      // kept until its turn
  kRepeated = 2,  // had been counted before; nothing changed
  kLate = 3,      // dropped: its step was decided without it
  kGone = 4,      // of a read: the version is too old to be there
};

// Flag of a PULL, beside kAllAtClock (rpc/message.h), and of its answer.
inline constexpr uint8_t kAskClock = 2;
// Flag of the ACK of a push (not beside kAskClock).
inline constexpr uint8_t kTellArrived = 4;

// Flag of a PUSH.
inline constexpr uint8_t kHoldsParams = 8;
// Flag of a PARAMS, beside kInPlace (rpc/message.h).
inline constexpr uint8_t kDelta = 2;

rpc::Message PushMessage(int32_t slice, int32_t replica, int64_t step, bool want_params,
                         rpc::Payload gradient);
rpc::Message AckMessage(const rpc::Header& push, AckCode code);
rpc::Message PullMessage(int32_t slice, int32_t replica, int64_t clock, int64_t version,
                         bool all_at_clock);
// Asks for the clock of `replica` on the slice.
rpc::Message AskClockMessage(int32_t slice, int32_t replica);
rpc::Message ParamsMessage(int32_t slice, int32_t replica, int64_t clock, int64_t version,
                           rpc::Payload params);
rpc::Message NormsMessage(int32_t slice, int64_t step, NormRound round,
                          const std::vector<double>& norms);
rpc::Message TotalsMessage(int32_t slice, int64_t step, NormRound round,
                           const std::vector<double>& totals);
rpc::Message ArrivedMessage(int32_t replica, int64_t step);
rpc::Message QuorumMessage(int32_t slice, const Decision& decision);
// What a QUORUM that passed its check says, for a job of `replicas` replicas.
Decision DecisionOf(const rpc::Message& quorum, int replicas);
rpc::Message ErrorMessage(const rpc::Header& request, const absl::Status& status);

// What a server checks against: its own place and the job's size.
struct WireLimits {
  const ParamTable* table = nullptr;
  const Partition* partition = nullptr;
  int server = 0;
  int num_replicas = 0;
  int backups = 0;
};

// A PUSH, PULL, TOTALS, ARRIVED or QUORUM that names a slice of this server, a replica of the job
// and sensible counters, and whose payload has exactly the size that it must have. Anything else is
// InvalidArgument with what is wrong.
absl::Status CheckRequest(const rpc::Message& message, const WireLimits& limits);
// An ACK, PARAMS, NORMS or QUORUM from server `server` for a slice that lives there, payload sizes
// included.
absl::Status CheckAnswer(const rpc::Message& message, const ParamTable& table,
                         const Partition& partition, int server);
// The status that an ERROR carries; never OK.
absl::Status StatusOf(const rpc::Message& error);

// Calls `visit(begin, src, n)` for runs that together are the payload's floats in order: n <=
// max_run elements from element `begin` on lie at `src` (any alignment, valid during the call). A
// float that two byte ranges share is put together first. Stops early and returns false when
// `visit` does. PRECONDITION: the payload's size is a multiple of 4.
bool ForEachRun(const rpc::Payload& payload, int64_t max_run,
                absl::FunctionRef<bool(int64_t begin, const std::byte* src, int64_t n)> visit);
// Copies the payload's floats into `out`. PRECONDITION: out is as long as the payload.
void CopyFloats(const rpc::Payload& payload, std::span<float> out);

}  // namespace muster::ps
