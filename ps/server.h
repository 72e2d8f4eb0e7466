// Server: one parameter-server role. Owns T shards, each with one owner thread; decodes messages to
// views and hands them to the shard that owns the slice. Knows nothing of the master: it takes
// values (the partition, the cut to save) and reports through callbacks.
//
// Thread-safe. Lifetime: the server outlives the streams of its acceptor (destroy the Listener
// first).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ps/consistency.h"
#include "ps/optimizer.h"
#include "ps/param.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/status.h"
#include "telemetry/trace.h"

namespace muster::ps {

class Residence;

// Learning rate of a global step: a function, so that restarts change nothing.
using Schedule = std::function<float(int64_t step)>;

struct ServerOptions {
  int index = 0;       // among the partition's servers
  int num_shards = 1;  // owner threads
  // Shard i's thread stays on the core first_core + i of those that the process may use, where
  // there is such a one; -1: on any.
  int first_core = -1;
  int num_replicas = 1;  // V
  uint64_t seed = 0;     // of the initial values
  float weight_decay = 0;
  float clip_value = std::numeric_limits<float>::infinity();  // of StepInfo
  // The averaged gradient of all weights is scaled down to this Euclidean norm. BSP only.
  float clip_norm = std::numeric_limits<float>::infinity();
  // Gradients held for their turn; beyond it pushes wait for credit.
  int64_t held_bytes_budget = int64_t{1} << 30;
  // The most that a replica has in flight; a worker that exceeds it is refused.
  int64_t client_credit_bytes = int64_t{64} << 20;
  // Memory for the parameters that workers read (rpc::Transport::Allocate); null: the heap.
  std::function<std::shared_ptr<std::byte[]>(size_t size)> allocate;
  // Not null: the parameters live there, with the only trainer, and no stream is accepted.
  std::shared_ptr<Residence> residence = nullptr;
  Trace* trace = nullptr;  // of what is done for each slice; borrowed, outlives the server, or null
};

inline constexpr int64_t kStalenessBounds[] = {0, 1, 2, 4, 8, 16, 32};

// Totals since the server was made, over its slices.
struct ServerStats {
  int64_t pushes = 0;      // gradients taken in, held ones included, repeated ones not
  int64_t held = 0;        // of these, held for their turn
  int64_t repeated = 0;    // pushes and totals of norms that had been counted before
  int64_t dropped = 0;     // gradients that came too late for their step (backup workers)
  int64_t refused = 0;     // messages answered by an error
  int64_t applies = 0;     // optimizer steps
  int64_t answers = 0;     // PARAMS sent
  int64_t bytes_in = 0;    // of gradients
  int64_t bytes_out = 0;   // of parameters
  int64_t held_bytes = 0;  // now: gradients that wait for their turn
  // Gradients by how many steps they are behind the furthest replica's on their slice, when they
  // are added: at most kStalenessBounds[i], and the rest.
  std::array<int64_t, std::size(kStalenessBounds) + 1> staleness = {};
  int64_t staleness_sum = 0;
};

struct ServerEvents {
  // A cut at `clock` is complete for all slices of this server and lies in `file` (tensors of
  // CheckpointPartName, safetensors, committed by rename), or failed. Called on the checkpoint
  // writer's thread.
  std::function<void(int64_t clock, const std::string& file, const absl::Status& status)> on_cut;
  // A push was refused because of what it holds (non-finite values …): names slice, step and
  // replica. Called on an owner thread.
  std::function<void(const absl::Status& status)> on_bad_push;
};

class Server {
 public:
  // All references are borrowed and outlive the server.
  static std::unique_ptr<Server> Make(const ParamTable& table, const Partition& partition,
                                      const ConsistencyPolicy& policy, const Optimizer& optimizer,
                                      Schedule schedule, ServerOptions options, ServerEvents events,
                                      Log& log);
  virtual ~Server() = default;

  // Sets this server's slices to their first values (clock 0), or to those of the checkpoint parts
  // `files` of clock `clock` (written by any number of servers). Call once, before the first
  // stream. Fails when a part is damaged, of another model, or lacks a slice or slot.
  virtual absl::Status Initialize() = 0;
  virtual absl::Status Restore(const std::vector<std::string>& files, int64_t clock) = 0;

  // For Transport::Listen: accepts streams of service "params".
  virtual rpc::Acceptor acceptor() = 0;

  // Saves all slices and slots at the cut `clock` into `directory`/ps-<index>.safetensors, when
  // each slice first reaches that clock (BSP: exactly version `clock`). Several may be pending. A
  // clock that is already passed reports an error through on_cut.
  virtual void CutAt(int64_t clock, const std::string& directory) = 0;

  virtual ServerStats stats() const = 0;
};

}  // namespace muster::ps
