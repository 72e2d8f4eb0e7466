// ParamSpec, ParamTable, ParamSlice: what a model declares, and the unit in which it is sharded.
//
// Value types, thread-compatible. Sizes and offsets are in elements (float32) unless a name says
// `_bytes`.
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "telemetry/status.h"

namespace muster::ps {

using ParamId = int32_t;

// How a parameter gets its first values. Computed on the shard that owns it, by Philox over (seed,
// name, element index), so they do not depend on the number of servers.
struct Init {
  enum class Kind { kZeros, kConstant, kTruncatedNormal, kUniform };
  Kind kind = Kind::kZeros;
  // kConstant: the value; kTruncatedNormal: stddev (cut at 2 sigma); kUniform: half width around 0.
  float value = 0;
};

struct ParamSpec {
  enum class Kind {
    kWeight,  // gradient pushed, optimizer applied
    // The replica's value pushed, averaged in replica order, folded into an EMA:
    // w = momentum * w + (1 - momentum) * mean.
    kStatistic,
  };
  std::string name;  // unique within the model, e.g. "conv1/weights"
  std::vector<int64_t> shape;
  Kind kind = Kind::kWeight;
  Init init;
  bool decay = true;                   // weight decay applies
  float lr_scale = 1;                  // multiplies the learning rate
  float momentum = 0.99f;              // kStatistic only
  std::shared_ptr<const Codec> codec;  // kWeight only: how its gradient travels; null: float32
  // kWeight only: how its values travel to the workers (ps/pulled.h); null: float32. The shard's
  // own stay float32. One with a residual asks for BSP.
  std::shared_ptr<const Codec> pull_codec;

  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

// The parameters of a model in ParamSpec order, laid out in one arena: each starts at a multiple of
// 16 elements (64 bytes).
class ParamTable {
 public:
  // Fails on an empty or repeated name, one with '[' or ']' (they mark slices in checkpoints), or a
  // dimension < 1.
  static absl::StatusOr<ParamTable> Make(std::vector<ParamSpec> specs);

  const std::vector<ParamSpec>& specs() const { return specs_; }
  // Of its first element in the arena.
  int64_t offset(ParamId param) const { return offsets_[param]; }
  int64_t arena_size() const { return arena_size_; }  // elements, padding included
  int64_t total_size() const { return total_size_; }  // elements, without padding

 private:
  std::vector<ParamSpec> specs_;
  std::vector<int64_t> offsets_;
  int64_t arena_size_ = 0;
  int64_t total_size_ = 0;
};

// Elements of a parameter whose squares are summed as one (ps/norms.h): 16 KiB.
inline constexpr int64_t kNormBlock = 4096;

// What is pushed, summed and answered as one. Elements [begin, begin + size) of one parameter; or a
// bundle: `params` whole small parameters in a row, with the padding between them, from the first
// one's first element on. Either way one range of the arena.
struct ParamSlice {
  ParamId param = 0;  // the first
  int64_t begin = 0;
  int64_t size = 0;  // elements of the arena
  int32_t params = 1;

  int64_t offset(const ParamTable& table) const { return table.offset(param) + begin; }
};

// "'conv/weights'[0:4096]"; of a bundle "'conv/bias' to 'fc/bias'".
std::string SliceName(const ParamTable& table, const ParamSlice& slice);

// Calls `visit` with each parameter's own part of the slice (params = 1), and where in the slice
// that begins.
void ForEachPart(const ParamTable& table, const ParamSlice& slice,
                 absl::FunctionRef<void(const ParamSlice& part, int64_t at)> visit);

// Which slice lives where. The same on every role, because it is a function of (table, servers)
// alone.
struct Partition {
  // In ParamSpec order, then by begin; the index is the slice's id on the wire.
  std::vector<ParamSlice> slices;
  std::vector<int> server;                     // by slice: the server that owns it
  std::vector<std::vector<int32_t>> of_param;  // by ParamId: its slice ids; a bundle's: one
  int num_servers = 0;
};

// Cuts every parameter into slices of at most min(4 MiB, total / (8 * servers)) bytes (at least 64
// KiB, below which a message costs more than its bytes), at multiples of kNormBlock, those with a
// codec of kQuantum, so that norms and what it decodes to do not depend on the number of servers;
// neighbours without codec that fit into min(64 KiB, total / (8 * servers)) (at least 4 KiB) become
// one bundle; and gives the slices to servers so that bytes are balanced: largest first, to the
// least loaded server. Where the fullest server then has more than 1.05 times the mean, slices are
// cut smaller until it has not, or the floor is reached. PRECONDITION: num_servers >= 1.
Partition MakePartition(const ParamTable& table, int num_servers);

// Whether values that are pulled with `codec`, which may be null, travel as what they changed by
// (ps/pulled.h).
inline bool SendsDeltas(const Codec* codec) { return codec != nullptr && codec->has_residual(); }

// Bytes of a slice's gradient as it is pushed, and of its values as they are pulled: whole, or as a
// delta where the codec sends such.
size_t PushBytes(const ParamTable& table, const ParamSlice& slice);
size_t PullBytes(const ParamTable& table, const ParamSlice& slice, bool delta = false);

// A bin in [0, bins) for each weight, heaviest first to the least loaded bin; the lower index where
// equal. PRECONDITION: bins >= 1.
std::vector<int> BalanceByWeight(const std::vector<int64_t>& weights, int bins);

}  // namespace muster::ps
