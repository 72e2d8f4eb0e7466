// Block: what a shard owns and a message is about: whatever is pushed, summed, applied and answered
// as one. Today all blocks are slices, dense ranges of the arena (ps/slice.h). Tables that are too
// big to be doubled or sent whole are to be blocks of another kind, whose messages name the rows
// that they carry (rpc::Header::rows).
//
// Owned by one thread (its shard's).
#pragma once

#include <functional>
#include <memory>

#include "kernels/stream.h"
#include "ps/counters.h"
#include "ps/cut.h"
#include "ps/held.h"
#include "ps/peer.h"
#include "ps/quorum.h"
#include "ps/server.h"

namespace muster::ps {

// What all blocks of a shard share; borrowed, outlives them.
struct BlockContext {
  const ParamTable* table = nullptr;
  const Partition* partition = nullptr;
  const ConsistencyPolicy* policy = nullptr;
  const Optimizer* optimizer = nullptr;
  const Schedule* schedule = nullptr;
  const ServerOptions* options = nullptr;
  const ServerEvents* events = nullptr;
  ServerCounters* counters = nullptr;
  HeldGradients* held = nullptr;
  Outbox* outbox = nullptr;
  CutWriter* cuts = nullptr;
  Stream* stream = nullptr;  // of the host's memory, on which updates are done
  // Called between the quanta of a big block; may run other blocks, never this one.
  std::function<void()> yield = nullptr;
  TraceThread trace = {};  // the shard's
};

class Block {
 public:
  virtual ~Block() = default;

  // First values, at clock 0.
  virtual void Initialize() = 0;
  // Weights, slots, version and clocks of the checkpoint.
  virtual absl::Status Restore(const Checkpoint& checkpoint) = 0;

  // Requests passed CheckRequest.
  virtual void OnPush(const std::shared_ptr<Peer>& peer, rpc::Message message) = 0;
  virtual void OnPull(const std::shared_ptr<Peer>& peer, const rpc::Message& message) = 0;
  // Ignored when the block does not wait for it, or not from this peer.
  virtual void OnTotals(const std::shared_ptr<Peer>& peer, const rpc::Message& message) = 0;
  // Whom the step counts whose version the block has.
  virtual void OnDecision(const Decision& decision) = 0;
  // Saves the block when its least clock is the cut's; fails the cut when it is beyond.
  virtual void OnCut(const std::shared_ptr<Cut>& cut) = 0;
  // The peer is gone: own what is borrowed from it, forget its requests.
  virtual void Detach(const Peer& peer) = 0;
};

// The block of slice `id` of the context's partition.
std::unique_ptr<Block> MakeBlock(const BlockContext& context, int32_t id);

}  // namespace muster::ps
