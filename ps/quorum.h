// Quorum: which replicas a step counts under BSP with backup workers. Of V replicas each step takes
// the first V - b whose gradients are whole: every slice of every server has them. The others' are
// dropped, everywhere alike, and the next version comes without waiting for them.
//
//   worker  → arbiter  ARRIVED  all slices of a replica's gradient of a step are acknowledged
//   arbiter → worker   QUORUM   the newest step that is decided, and whom it counts
//   worker  → server   QUORUM   the same, passed on
//
// The arbiter is the server that holds slice 0. It tells each process whose ARRIVED the decision
// took in, and at once one whose ARRIVED comes after it. Whoever hears a decision passes it on to
// the other servers, which act on the first they hear: no role needs a link that it did not have,
// and no single worker can hold a decision up. Who learns that the step after its own is decided,
// too, goes on at the newest version (ps/client.h).
//
// Nobody waits for ever. A step lacks b replicas at most, since the V - b that it counts all read
// the next version; so V - b can always bring the next one. And a server hears of no step before it
// has the version that the step is of: V - b replicas have read that from all servers.
//
// What a process passes on is believed: a slice only checks that it has the gradients.
//
// Thread-safe. Knows nothing of gradients; sends nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ps/consistency.h"
#include "ps/peer.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"

namespace muster::ps {

using ReplicaSet = std::vector<bool>;  // by replica

// The replicas that a step counts.
struct Decision {
  int64_t step = -1;
  ReplicaSet counted;
};

class Quorum {
 public:
  // PRECONDITION: 0 < backups < replicas.
  Quorum(int replicas, int backups) : counted_(replicas - backups), arrived_(replicas, false) {}

  // Steps before `step` were decided in an earlier run. Call before the first message.
  void Begin(int64_t step);

  struct Told {
    std::vector<std::shared_ptr<Peer>> peers;  // that hear the newest decision now
    Decision newest;
    bool now = false;  // this message brought it about
  };
  // The arbiter's. Replica `v`, below V, says through `peer` that its gradient of `step` is whole.
  // FailedPrecondition for a step beyond the one that is to be decided.
  absl::StatusOr<Told> OnArrived(ReplicaId v, int64_t step, std::shared_ptr<Peer> peer);
  // The other servers'. True when the decision is news; FailedPrecondition for a step that cannot
  // be decided yet. PRECONDITION: it counts V - b of V replicas.
  absl::StatusOr<bool> OnDecision(const Decision& decision);

 private:
  absl::Status CheckNotAhead(int64_t step) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int counted_;  // V - b

  Mutex mu_;
  int64_t next_ ABSL_GUARDED_BY(mu_) = 0;  // the step to be decided
  ReplicaSet arrived_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<Peer>> peers_ ABSL_GUARDED_BY(mu_);  // of these, each once
  Decision newest_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::ps
