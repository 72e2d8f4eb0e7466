// Slice: a block that is a dense range of the arena: its clocks, and the gradients and readers that
// wait there. Asks the policy whom to add to its values (ps/slice_values.h) and when to apply, and
// answers.
//
// Owned by one thread (its shard's). Weights exist in two parities: the front is the current
// version, the back the one before, which the next apply overwrites. What may be read where, and
// until when:
//
//  1. BSP with all replicas: the apply that makes version n + 2 overwrites version n, and happens
//     only after every replica pushed step n + 1, which each computed from version n + 1. So nobody
//     still reads version n, and the answer to a push borrows the weights where they lie: nothing
//     is copied.
//  2. SSP, ASYNC and backup workers know no such moment: an answer lends the weights until the
//     reader has dropped it (ps/parities.h). An apply that would overwrite what is still lent takes
//     another buffer for that parity.
//  3. An ACK with kConsumed or kRepeated, and any ERROR, means that the slice holds no reference to
//     the gradient. One with kHeld leaves a reference until PARAMS of the next clock; when the
//     stream closes before, the slice takes a copy (Detach).
//  4. Pulls and repeated pushes (late workers) never read in place: they are answered as 2. says.
//     Cuts copy.
//
// Where an update needs norms of whole parameters, a step whose gradients are all in waits for
// their totals (ps/norms.h): its clocks count it, its version does not. The sums stay until the
// next step's, so that a process that pushes replica 0 again can gather them anew.
//
// With backup workers a slice holds what comes and adds nothing, until it is told whom the step
// counts (ps/quorum.h); then it lets go of all gradients of the step. Who asks for a version that
// is gone is told so, and asks for a newer one.
//
// A push that its parameter's codec cannot decode is refused and changes nothing. So is one whose
// gradient is not finite, except when part of it was already added to other replicas' gradients:
// then this step's sum is lost, and the slice refuses all further pushes; its weights stay as they
// were.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "ps/block.h"
#include "ps/norms.h"
#include "ps/slice_values.h"

namespace muster::ps {

class Slice final : public Block {
 public:
  // PRECONDITION: context.options->num_replicas >= 1; the policy is exact where pulls are deltas.
  Slice(const BlockContext& context, int32_t id);

  void Initialize() override;
  absl::Status Restore(const Checkpoint& checkpoint) override;
  void OnPush(const std::shared_ptr<Peer>& peer, rpc::Message message) override;
  void OnTotals(const std::shared_ptr<Peer>& peer, const rpc::Message& message) override;
  void OnPull(const std::shared_ptr<Peer>& peer, const rpc::Message& message) override;
  // Gives up when one that is counted never pushed.
  void OnDecision(const Decision& decision) override;
  void OnCut(const std::shared_ptr<Cut>& cut) override;
  void Detach(const Peer& peer) override;

 private:
  // A reader that waits.
  struct Reader {
    std::shared_ptr<Peer> peer;
    int32_t replica = 0;
    int64_t clock = 0;
    int64_t version = -1;       // exact, or -1
    bool all_at_clock = false;  // waits for the least clock, whatever the policy
    bool in_place = false;      // invariant 1 holds for it
    bool holds = false;         // the version before that of its clock: takes a delta (ps/pulled.h)
  };

  // The newest step that was summed, where updates need norms.
  struct Norms {
    int64_t step = -1;
    std::shared_ptr<Peer> peer;        // brought replica 0's gradient; null: gone
    std::optional<NormRound> awaited;  // the step waits for these totals
    StepInfo info;
    std::array<std::vector<double>, kNormRounds> sums;  // by round; empty: not summed yet
  };

  bool Clips() const;
  int backups() const { return context_.policy->backups(); }
  // Invariant 1 holds for the answers to pushes.
  bool reads_in_place() const { return context_.policy->exact() && backups() == 0; }
  std::string Name() const;
  // Traces what is done for `replica`'s push of `step` until it is destroyed.
  TraceSpan Traced(const char* name, int64_t step, int64_t replica) const;

  // Adds the gradient that came with `header` to the sum of the step, and where the update is Fused
  // updates the weights with it. False when the gradient is not finite.
  bool Add(const rpc::Header& header, const rpc::Payload& gradient, Verdict verdict,
           const StepInfo& info);
  // Whether Add updates the weights too. Not under SSP and ASYNC, where a gradient that is not
  // finite is refused whole and the others go on.
  bool Fused(Verdict verdict) const;
  // Counts an added gradient; with kApply the next version is there.
  void Fold(const rpc::Header& header, Verdict verdict, const StepInfo& info);
  // Updates the weights with the sum, which `header`'s message completed.
  void Apply(const rpc::Header& header, const StepInfo& info);
  void Advance();  // the next version is there

  // Two-phase updates (slice_norms.cc). A step's gradients are all in.
  void BeginNorms(const StepInfo& info);
  // Sums the round up, asks for its totals and waits for them.
  void BeginRound(NormRound round);
  void SendNorms(NormRound round);
  // Whether the totals are finite and hold this slice's own sums.
  bool Plausible(NormRound round, const std::vector<double>& totals) const;
  void ClipByNorm(double total);

  // What an update needs to know, but for what is each parameter's own; nothing where the verdict
  // is none.
  StepInfo MakeStepInfo(Verdict verdict, int64_t staleness, int64_t global_step) const;
  void Hold(const std::shared_ptr<Peer>& peer, rpc::Message message);
  // Folds the held gradients whose turn has come.
  void FoldHeld(int64_t staleness, int64_t global_step);
  // Folds this one; false: it is not finite, and the slice gave up.
  bool FoldOne(HeldGradient& gradient, Verdict verdict, int64_t staleness, int64_t global_step);
  // A held gradient's turn has come, or it is given up (HeldGradients::Release).
  void Release(HeldGradient& gradient, bool answer);
  int64_t Staleness(int64_t step) const;

  // What a reader asked, for the answer to echo.
  rpc::Header HeaderOf(const Reader& reader) const;
  void Refuse(const Peer& peer, const rpc::Header& header, const absl::Status& status);
  void RefuseEncoding(const Peer& peer, const rpc::Header& header, const absl::Status& why);
  void RefuseNonFinite(const Peer& peer, const rpc::Header& header, Verdict verdict);
  void Poison(absl::Status status);

  // Whoever pushed `header` wants the parameters of the next clock.
  void AddReader(const std::shared_ptr<Peer>& peer, const rpc::Header& header, bool in_place);
  // Answers whoever can be answered; refuses the newest when too many are left.
  void AnswerReaders();
  // Whether the reader can be answered now; `version` is then what it gets. OutOfRange when
  // that version is gone.
  absl::StatusOr<bool> Ready(const Reader& reader, int64_t& version) const;
  void Answer(const Reader& reader, int64_t version);
  void ReachCuts();
  void Save(const std::shared_ptr<Cut>& cut);

  const BlockContext& context_;
  const int32_t id_;
  const ParamSlice slice_;
  SliceValues values_;
  const bool needs_norms_;  // before it applies a step

  SliceState state_;
  int64_t oldest_version_ = 0;  // the back parity holds version - 1 unless that is older than this
  std::vector<std::shared_ptr<HeldGradient>> held_;
  std::vector<int64_t> pushed_;  // by replica, with backup workers: the newest step that came
  std::vector<Reader> readers_;
  std::multimap<int64_t, std::shared_ptr<Cut>> cuts_;  // by clock
  Norms norms_;
  absl::Status poisoned_;
};

}  // namespace muster::ps
