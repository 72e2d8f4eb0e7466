// Checkpoint parts: what one server saves of its slices at a cut, and how parts of any number of
// servers become slices of any other number, or whole parameters.
//
// A part is a safetensors file. A slice's tensor is named `<param>` when it is the whole parameter
// (and has its shape), else `<param>[begin:end]` (flat), in elements; its slots are named
// `<param>.<slot>` and `<param>.<slot>[begin:end]`; a bundle is saved as its parameters. Metadata:
// `clock`, `model` (the fingerprint), `version.<tensor>` (applies behind a slice: Adam's t).
// Weights and slots are float32.
//
// Free functions, thread-safe. A Checkpoint is thread-compatible and belongs to whoever opened it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ps/param.h"
#include "ps/safetensors.h"
#include "telemetry/status.h"

namespace muster::ps {

// A copy of all that a shard knows of a slice at a cut.
struct SavedSlice {
  int32_t slice = 0;  // index in the partition
  int64_t version = 0;
  std::vector<float> weights;             // [size]
  std::vector<std::vector<float>> slots;  // by slot: [size]
};

// Changes when a parameter's name, shape, kind or place in the model does.
std::string ModelFingerprint(const ParamTable& table);
// "<directory>/ps-<server>.safetensors"
std::string CheckpointPartPath(const std::string& directory, int server);

// Writes a part, durably, its folder too. Fails with the path and the cause; what was there before
// stays.
absl::Status WriteCheckpointPart(const std::string& path, const ParamTable& table,
                                 const Partition& partition,
                                 const std::vector<std::string>& slot_names, int64_t clock,
                                 std::span<const SavedSlice> slices,
                                 std::map<std::string, std::string> more_metadata = {});

// The parts of one checkpoint, indexed by what they hold.
class Checkpoint {
 public:
  // Opens the parts and checks that they are of this model and of one clock. Fails naming the file
  // and what is wrong.
  static absl::StatusOr<Checkpoint> Open(const std::vector<std::string>& files,
                                         const ParamTable& table);

  // The same, and it is of `clock`.
  static absl::StatusOr<Checkpoint> OpenAt(const std::vector<std::string>& files,
                                           const ParamTable& table, int64_t clock);

  int64_t clock() const { return clock_; }
  // The metadata `key` of its first part, or null.
  const std::string* metadata(const std::string& key) const {
    return files_.front()->metadata(key);
  }
  // The weights, or with `slot` that slot, of the slice's elements, put together from the parts
  // that hold them; all of them must be there, but for slots of statistics, which have none.
  // Padding stays as it is. Fails naming the parameter, the elements and the file.
  absl::Status Read(const ParamSlice& slice, const std::string& slot, std::span<float> out) const;
  // Applies behind the slice: the most that a part's slice with some of its elements had.
  int64_t Version(const ParamSlice& slice) const;

 private:
  // Elements [begin, end) of one parameter's weights or slot.
  struct Range {
    int64_t begin = 0, end = 0;
    int64_t version = 0;
    const SafetensorsFile* file = nullptr;
    std::string tensor;
  };
  using Key = std::pair<ParamId, std::string>;  // parameter and slot; "" for weights

  explicit Checkpoint(const ParamTable& table) : table_(&table) {}
  absl::Status ReadPart(const ParamSlice& part, const std::string& slot,
                        std::span<float> out) const;
  absl::Status Index(const SafetensorsFile& file);
  absl::Status IndexTensor(const SafetensorsFile& file, const std::string& name,
                           const SafetensorsFile::Tensor& tensor);
  absl::Status CheckOverlaps();

  const ParamTable* table_;
  int64_t clock_ = -1;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<Key, std::vector<Range>> ranges_;  // sorted by begin, disjoint
};

// All parameters of a checkpoint, as an arena (table.arena_size() elements, padding zero). Slots
// are not read.
absl::StatusOr<std::vector<float>> ReadFullParams(const std::vector<std::string>& files,
                                                  const ParamTable& table);

}  // namespace muster::ps
