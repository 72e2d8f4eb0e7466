// Dataset: samples by index; DeviceFrontEnd: the part of a data set's work that a device does.
//
// Thread-safe: samples are asked for by several loader threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "telemetry/status.h"

namespace muster {
class Device;
class Stream;
}  // namespace muster

namespace muster::worker {

// Makes inputs in a device's memory: the host writes a record of each sample, what is random about
// it included; a batch's records travel, and the device makes the inputs from them. The inputs are
// those of Dataset::Get but for the rounding of float32.
class DeviceFrontEnd {
 public:
  virtual ~DeviceFrontEnd() = default;
  virtual int64_t record_bytes() const = 0;  // of one sample, a multiple of 16
  // As Dataset::Get, but writes the sample's record [record_bytes()].
  virtual absl::Status GetRecord(int64_t index, int64_t draw, std::span<std::byte> record,
                                 int32_t* label) const = 0;
  // Enqueues on `stream` what turns n records into `inputs` [n, input_size], both in the device's
  // memory. Called for one batch at a time.
  virtual void Compute(Stream& stream, int64_t n, const std::byte* records, float* inputs) = 0;
};

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
  // Of the list of samples, wherever they lie: equal where training goes on as it would have here.
  // "" (the default): not known.
  virtual std::string Fingerprint() const { return ""; }
  // What makes inputs on `device`, for batches of up to `max_batch`; null (the default): nothing,
  // they are made by Get and travel. It borrows device and data set. Fails as Get does, and when
  // the device does.
  virtual absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> MakeDeviceFrontEnd(
      Device& /*device*/, int64_t /*max_batch*/) const {
    return std::unique_ptr<DeviceFrontEnd>();
  }
};

}  // namespace muster::worker
