// Bundles: a worker's side of slices that hold several parameters. Their gradients come one by one
// and travel as one: from where they lie when that is an arena of Allocate, else gathered in memory
// of the replica.
//
// Used by one thread. A gradient that is noted stays unchanged until the server has taken the
// bundle, as Client::Push asks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ps/param.h"
#include "rpc/transport.h"
#include "telemetry/status.h"

namespace muster::ps {

class Bundles {
 public:
  // Borrows all; memory is the transport's.
  Bundles(rpc::Transport& transport, const ParamTable& table, const Partition& partition)
      : transport_(transport), table_(table), partition_(partition) {}

  // An arena for gradients, all zero [table.arena_size()].
  std::shared_ptr<float[]> Allocate();

  struct Whole {
    rpc::Payload payload;
    int priority = 0;  // the most urgent parameter's
    bool want_params = false;
  };
  // Notes the gradient of one parameter of the bundle `slice`; the bundle, when it was the last.
  // PRECONDITION: the slice holds the parameter.
  std::optional<Whole> Add(int32_t replica, int64_t step, int32_t slice, ParamId param,
                           std::span<const float> grad, int priority, bool want_params);

  // FailedPrecondition, with the first parameter that lacks, when a bundle of a step before `clock`
  // waits for more.
  absl::Status CheckWhole(int64_t clock) const;

 private:
  struct Bundle {
    int64_t step = -1;
    std::vector<const float*> grads;  // by parameter from the first; null: not pushed
    int32_t missing = 0;
    int priority = 0;
    bool want_params = false;
    std::shared_ptr<float[]> gathered;
  };

  // The arena in which the whole bundle lies; null when there is none.
  const float* ArenaOf(const ParamSlice& slice, const Bundle& bundle);

  rpc::Transport& transport_;
  const ParamTable& table_;
  const Partition& partition_;
  std::vector<std::weak_ptr<float[]>> arenas_;
  std::map<int32_t, std::vector<Bundle>> bundles_;  // by replica; by slice
};

}  // namespace muster::ps
