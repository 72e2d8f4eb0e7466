// Dataset: samples by index. Thread-safe: Get is called by several loader threads at once.
#pragma once

#include <cstdint>
#include <span>

#include "telemetry/status.h"

namespace muster::worker {

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;        // samples of one epoch
  virtual int64_t input_size() const = 0;  // float32 elements of one sample
  // Writes sample `index` (0 <= index < size()) to `input` [input_size] and `*label`. Everything
  // random about it (augmentation) is a function of (the data set's seed, index, draw) alone;
  // `draw` is the sample's position in the endless training sequence, 0 in evaluation. Fails when
  // the sample cannot be read and cannot be replaced.
  virtual absl::Status Get(int64_t index, int64_t draw, std::span<float> input,
                           int32_t* label) const = 0;
};

}  // namespace muster::worker
