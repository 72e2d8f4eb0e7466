#include "ps/consistency.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace muster::ps {
namespace {

// Bulk synchronous: the gradients of a step are added in replica order, so the sum is the same
// whatever order they arrive in, and version n is a function of the first n steps alone.
class Bsp final : public ConsistencyPolicy {
 public:
  const char* name() const override { return "BSP"; }
  Verdict OnPush(const SliceState& state, ReplicaId v, int64_t step) const override {
    if (step < state.clocks[static_cast<size_t>(v)]) return Verdict::kDrop;
    return OnHeld(state, v, step);
  }
  Verdict OnHeld(const SliceState& state, ReplicaId v, int64_t step) const override {
    if (step != state.version || v != state.next_replica) return Verdict::kHold;
    return v + 1 == static_cast<ReplicaId>(state.clocks.size()) ? Verdict::kApply : Verdict::kFold;
  }
  int64_t MinClockToRead(int64_t clock) const override { return clock; }
  float Scale(int64_t /*staleness*/, int replicas) const override {
    return 1.0f / static_cast<float>(replicas);
  }
  bool exact() const override { return true; }
};

// Bulk synchronous with backup workers: Chen, Pan, Monga, Bengio, Jozefowicz, "Revisiting
// Distributed Synchronous SGD", ICLR 2016 workshop. No gradient's turn comes by itself: the quorum
// says whose.
class BspWithBackups final : public ConsistencyPolicy {
 public:
  explicit BspWithBackups(int backups) : backups_(backups) {}
  const char* name() const override { return "BSP"; }
  Verdict OnPush(const SliceState& state, ReplicaId v, int64_t step) const override {
    return step < state.clocks[static_cast<size_t>(v)] ? Verdict::kDrop : Verdict::kHold;
  }
  Verdict OnHeld(const SliceState&, ReplicaId, int64_t) const override { return Verdict::kHold; }
  int64_t MinClockToRead(int64_t clock) const override { return clock; }
  float Scale(int64_t /*staleness*/, int replicas) const override {
    return 1.0f / static_cast<float>(replicas - backups_);
  }
  bool exact() const override { return true; }
  int backups() const override { return backups_; }

 private:
  const int backups_;
};

// Stale synchronous (Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel
// Parameter Server", NIPS 2013): a reader with clock c sees every gradient of the steps before
// c - staleness, and possibly newer ones.
class Ssp final : public ConsistencyPolicy {
 public:
  explicit Ssp(int64_t staleness) : staleness_(staleness) {}
  const char* name() const override { return "SSP"; }
  Verdict OnPush(const SliceState& state, ReplicaId v, int64_t step) const override {
    return step < state.clocks[static_cast<size_t>(v)] ? Verdict::kDrop : Verdict::kApply;
  }
  Verdict OnHeld(const SliceState&, ReplicaId, int64_t) const override { return Verdict::kApply; }
  int64_t MinClockToRead(int64_t clock) const override {
    return std::max<int64_t>(0, clock - staleness_);
  }
  float Scale(int64_t /*staleness*/, int replicas) const override {
    return 1.0f / static_cast<float>(replicas);
  }
  bool exact() const override { return false; }

 private:
  const int64_t staleness_;
};

// Asynchronous: every gradient is applied when it comes, nobody waits for anybody. Scaling by
// staleness: Zhang, Gupta, Lian, Liu, "Staleness-aware Async-SGD for Distributed Deep Learning",
// IJCAI 2016: the learning rate of a gradient of staleness n is divided by max(1, n). Their n
// counts updates of the weights, ours steps behind the furthest replica.
class Async final : public ConsistencyPolicy {
 public:
  explicit Async(bool scale_by_staleness) : scale_by_staleness_(scale_by_staleness) {}
  const char* name() const override { return "ASYNC"; }
  Verdict OnPush(const SliceState& state, ReplicaId v, int64_t step) const override {
    return step < state.clocks[static_cast<size_t>(v)] ? Verdict::kDrop : Verdict::kApply;
  }
  Verdict OnHeld(const SliceState&, ReplicaId, int64_t) const override { return Verdict::kApply; }
  int64_t MinClockToRead(int64_t /*clock*/) const override { return 0; }
  float Scale(int64_t staleness, int replicas) const override {
    const int64_t divisor = scale_by_staleness_ ? std::max<int64_t>(1, staleness) : 1;
    return 1.0f / (static_cast<float>(replicas) * static_cast<float>(divisor));
  }
  bool exact() const override { return false; }

 private:
  const bool scale_by_staleness_;
};

using PolicyPtr = std::unique_ptr<const ConsistencyPolicy>;
struct Mode {
  const char* name;
  PolicyPtr (*make)(int64_t staleness, bool scale_by_staleness, int backups);
};
constexpr std::array kModes = {
    Mode{"BSP",
         [](int64_t, bool, int backups) -> PolicyPtr {
           if (backups > 0) return std::make_unique<BspWithBackups>(backups);
           return std::make_unique<Bsp>();
         }},
    Mode{
        "SSP",
        [](int64_t staleness, bool, int) -> PolicyPtr { return std::make_unique<Ssp>(staleness); }},
    Mode{"ASYNC",
         [](int64_t, bool scale, int) -> PolicyPtr { return std::make_unique<Async>(scale); }},
};

}  // namespace

int64_t SliceState::min_clock() const {
  return clocks.empty() ? 0 : *std::min_element(clocks.begin(), clocks.end());
}

absl::StatusOr<PolicyPtr> MakeConsistencyPolicy(const std::string& mode, int64_t staleness,
                                                bool scale_by_staleness, int backups) {
  if (staleness < 0) {
    return absl::InvalidArgumentError(
        fmt::format("consistency.staleness is {}; it must be 0 or more", staleness));
  }
  if (backups < 0 || (backups > 0 && mode != "BSP")) {
    return absl::InvalidArgumentError(fmt::format(
        "consistency.backupWorkers is {} under {}; only BSP has them, 0 or more", backups, mode));
  }
  for (const Mode& known : kModes) {
    if (mode == known.name) return known.make(staleness, scale_by_staleness, backups);
  }
  return absl::InvalidArgumentError(fmt::format(
      "unknown consistency mode '{}'; write one of {}", mode,
      absl::StrJoin(kModes, ", ",
                    [](std::string* out, const Mode& known) { out->append(known.name); })));
}

}  // namespace muster::ps
