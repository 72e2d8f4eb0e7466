// Norms of whole parameters, for updates in two phases: clipping by global norm, and trust ratios.
// A slice that has a step's gradients does not apply them yet. It sends the sums of squares of its
// own elements (NORMS) to the process that pushed replica 0; that process's client adds up what all
// slices sent, in the model's order, and answers each (TOTALS).
//
// Sums are float64, one per block of kNormBlock elements of a parameter. Slices are cut at
// multiples of it (MakePartition), so blocks, and with them every bit of the totals, depend neither
// on the number of servers nor on who computes.
//
// The functions are pure: thread-safe. NormTotals is thread-compatible; it borrows table and
// partition.
#pragma once

#include <absl/functional/function_ref.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ps/param.h"
#include "rpc/message.h"

namespace muster::ps {

// What is summed; Header::code of NORMS and TOTALS. A step goes through one of them or both, in
// this order.
enum class NormRound : uint16_t {
  kGradient = 0,  // squares of the summed gradient; the total is over all weights of the model
  kTrust = 1,     // squares of the weights, and of the step's direction; totals by parameter
};
inline constexpr int kNormRounds = 2;

// Sums per block: kGradient 1, kTrust 2.
int NormWidth(NormRound round);

// Calls `visit` for each block of the slice's parameters of kind kWeight, in order: elements
// [at, at + size) of the slice, which belong to `param`.
void ForEachNormBlock(const ParamTable& table, const ParamSlice& slice,
                      absl::FunctionRef<void(ParamId param, int64_t at, int64_t size)> visit);

// Values in a slice's NORMS, and in its TOTALS (kTrust: NormWidth for each of its parameters of
// kind kWeight, in order). 0 for a slice of statistics alone, which needs no norms.
size_t NormValues(const ParamTable& table, const ParamSlice& slice, NormRound round);
size_t TotalValues(const ParamTable& table, const ParamSlice& slice, NormRound round);

// Float64 values as a payload, and back. PRECONDITION: its size is a multiple of 8.
rpc::Payload DoublesPayload(const std::vector<double>& values);
std::vector<double> DoublesOf(const rpc::Payload& payload);

// Scales a replica's own gradient [table.arena_size()] in place, all but statistics, so that its
// norm is `most` at most: what a worker does before it pushes where servers apply each gradient at
// once (SSP, ASYNC).
void ClipByNorm(const ParamTable& table, double most, std::span<float> gradient);

// The client's side: gathers the NORMS of one step and adds them up.
class NormTotals {
 public:
  NormTotals(const ParamTable& table, const Partition& partition);

  // Takes in a slice's NORMS, which passed CheckAnswer; returns the slices whose TOTALS can now be
  // sent: none before all slices are there, then all, and the slice itself when it asks again.
  // NORMS of a step before the newest are ignored, those of a newer one begin anew.
  std::vector<int32_t> Add(int32_t slice, int64_t step, NormRound round, const rpc::Payload& norms);
  // PRECONDITION: the last Add of this round returned the slice.
  std::vector<double> Of(int32_t slice, NormRound round) const;

 private:
  struct Gathered {
    int64_t step = -1;
    std::vector<std::vector<double>> norms;  // by slice; empty: not there
    int32_t missing = 0;                     // slices
    std::vector<double> totals;              // kTrust: by parameter, NormWidth each
  };
  void AddUp(NormRound round, Gathered& all) const;

  const ParamTable& table_;
  const Partition& partition_;
  std::vector<int32_t> slices_;  // with norms
  std::array<Gathered, kNormRounds> rounds_;
};

}  // namespace muster::ps
