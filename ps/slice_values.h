// SliceValues: the numbers of a slice and what is computed with them: the weights in two parities,
// the optimizer's slots, the sum of a step's gradients, and the form in which readers get the
// weights. Who is added when, and who may read what until when, is the slice's to say (ps/slice.h).
//
// Each version lies at the front; the one before is at the back, which the next one overwrites.
//
// Owned by one thread (its shard's). Big slices yield to others between their quanta.
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ps/block.h"
#include "ps/norms.h"
#include "ps/parities.h"
#include "ps/pulled.h"
#include "ps/runs.h"

namespace muster::ps {

class SliceValues {
 public:
  // Weights undefined, slots as the optimizer wants them. Borrows both.
  SliceValues(const BlockContext& context, const ParamSlice& slice);
  SliceValues(const SliceValues&) = delete;
  SliceValues& operator=(const SliceValues&) = delete;

  // The first weights.
  void Initialize();
  // Weights and slots of the checkpoint. Fails as Checkpoint::Read does, and where it was made
  // under another consistency mode.
  absl::Status Restore(const Checkpoint& checkpoint);
  // Copies weights and slots.
  void SaveTo(SavedSlice& saved) const;

  // Not statistics alone.
  bool has_weights() const;

  // How gradients travel; null: float32.
  const Codec* codec() const;
  // Whether the gradient's codec, if it has one, can decode it; its bytes then lie in one range.
  absl::Status CheckEncoding(rpc::Payload& gradient) const;
  // Adds the gradient to the sum of `added` others; the first one is copied. With `update`, which
  // completes the step, each run of the sum updates the weights while it is in the cache. False
  // when the gradient is not finite. PRECONDITION: CheckEncoding was OK.
  bool Add(const rpc::Payload& gradient, int added, const StepInfo* update);
  // Updates the back with the sum of `n` replicas' gradients.
  void Apply(const StepInfo& info, int n);
  // The back, which was updated, is the front from now on, and `version`.
  void Advance(int64_t version);

  // Two-phase updates (ps/norms.h). The slice's own part of the round's sums of squares.
  std::vector<double> Squares(NormRound round) const;
  // Turns the sum into the direction of the step.
  void Direct(const StepInfo& info);
  // Each parameter's learning rate is multiplied by its own ratio, from TOTALS of kTrust; by 1
  // after ResetTrust.
  void ResetTrust();
  void SetTrust(const std::vector<double>& totals);

  struct Reading {
    rpc::Payload values;
    bool delta = false;
  };
  // `version`, which is the front or the one before, for a reader. `in_place`: as ps/parities.h;
  // `holds`: the reader has the version before that, and takes a delta (ps/pulled.h).
  Reading Read(int64_t version, bool front, bool in_place, bool holds);

 private:
  using Buffer = std::shared_ptr<float[]>;  // aligned to 64 bytes

  Buffer MakeBuffer() const;
  // In memory that readers may share, where there is such.
  std::shared_ptr<std::byte[]> AllocateWeights() const;
  std::span<float> Weights(int parity) const;
  std::span<float> View(const Buffer& buffer) const;
  std::vector<std::span<float>> SlotViews(int64_t begin, size_t size) const;

  // Calls `visit` for each quantum of the sum, and lets others in between.
  void ForEachQuantum(absl::FunctionRef<void(int64_t begin, std::span<float> sum)> visit);
  // Calls `visit` for each run's part of `sum`, which begins at `begin`.
  void ForEachRunOf(
      int64_t begin, std::span<float> sum,
      absl::FunctionRef<void(const Run& run, int64_t from, std::span<float> part)> visit) const;
  // The optimizer's step for the elements from `begin` on, whose gradients' sum over n replicas is
  // `sum`.
  void Update(const StepInfo& info, int n, int64_t begin, std::span<float> sum);

  const BlockContext& context_;
  const ParamSlice& slice_;
  std::vector<Run> runs_;
  const bool big_;  // more than one quantum: yields
  Parities weights_;
  PulledValues pulled_;  // for readers, where they are encoded
  int front_ = 0;
  Buffer sum_;  // of the step's gradients so far
  std::vector<Buffer> slots_;
};

}  // namespace muster::ps
