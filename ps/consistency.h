// ConsistencyPolicy: when a pushed gradient is applied and when a reader may go on. The only code
// that knows the mode.
//
// Vocabulary. The *clock* of replica v on a slice is the number of steps whose gradients v has
// pushed there, so a replica with clock c computes step c next. The *version* of a slice counts its
// applies. They are different things. Policies are immutable: thread-safe.
//
//   mode   OnPush(v, step)                                   a clock c may read when min clock >=
//   BSP    hold until all lower replicas of the step are     c
//          in, then fold; the last applies the sum,
//          scaled 1/V
//   BSP,   hold until it is decided which V - b replicas    c
//   b > 0  the step counts (ps/quorum.h); their sum is
//          scaled 1/(V - b)
//   SSP    apply at once, scaled 1/V                         c - staleness
//   ASYNC  apply at once, scaled 1/V, or with                0 (never waits)
//          `scale_by_staleness` 1/(V max(1, n)) when it is
//          n steps behind the furthest replica
//
// A new mode is one class, one line in the table in consistency.cc, and its truth table in
// tests/ps/consistency_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::ps {

using ReplicaId = int32_t;

enum class Verdict {
  kDrop,   // already counted (a repeated push): answer again, change nothing
  kHold,   // keep the gradient until its turn
  kFold,   // add it to the sum of this step now
  kApply,  // add it, and apply the sum: version + 1
};

// What a shard knows about one slice, as far as consistency needs it.
struct SliceState {
  int64_t version = 0;          // applies so far
  std::vector<int64_t> clocks;  // by replica: steps pushed (held ones included)
  int next_replica = 0;  // gradients folded since the last apply: the replica whose turn it is

  int64_t min_clock() const;
};

class ConsistencyPolicy {
 public:
  virtual ~ConsistencyPolicy() = default;
  virtual const char* name() const = 0;
  // What to do with replica v's gradient of `step`, given the state before it. A step in the past
  // is kDrop. (A step in the future of v's own clock is a protocol error which the shard refuses
  // before it asks.)
  virtual Verdict OnPush(const SliceState& state, ReplicaId v, int64_t step) const = 0;
  // The same for a gradient that is held (its clock is counted already), now that the state has
  // changed: kHold, kFold or kApply.
  virtual Verdict OnHeld(const SliceState& state, ReplicaId v, int64_t step) const = 0;
  // The least clock that all replicas must have reached before one with `clock` may read.
  virtual int64_t MinClockToRead(int64_t clock) const = 0;
  // Factor of a gradient that is `staleness` steps old among `replicas`.
  virtual float Scale(int64_t staleness, int replicas) const = 0;
  // True when every reader of clock c gets exactly version c.
  virtual bool exact() const = 0;
  // Backup workers: how many replicas' gradients a step does without. A clock then jumps to the
  // version when the step is decided.
  virtual int backups() const { return 0; }
};

// `scale_by_staleness` is ASYNC's alone, `backups` BSP's.
// Mode "BSP", "SSP" (bound `staleness` >= 0) or "ASYNC"; any other name fails with the valid ones.
absl::StatusOr<std::unique_ptr<const ConsistencyPolicy>> MakeConsistencyPolicy(
    const std::string& mode, int64_t staleness, bool scale_by_staleness = false, int backups = 0);

}  // namespace muster::ps
