// TensorBoard event files: scalars that `tensorboard --logdir <job-dir>/summaries` shows.
//
// Format: TFRecord frames (little-endian u64 length, masked CRC-32C of it, payload, masked CRC-32C
// of that) of Event messages (telemetry/event.proto). Each frame reaches the file by one append, so
// a crash leaves at most one torn frame at the end, which readers skip. Owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "telemetry/status.h"

namespace muster {

class SummaryWriter {
 public:
  // Makes a new file events.out.tfevents.<seconds>.<host>.<n> in `directory`, which is made when
  // absent. A resumed run calls this again: it gets a file of its own, and `resume_step` >= 0 tells
  // TensorBoard to drop the older files' points from that step on. Fails when the folder or file
  // cannot be made.
  static absl::StatusOr<std::unique_ptr<SummaryWriter>> Create(const std::string& directory,
                                                               int64_t now_ms,
                                                               int64_t resume_step = -1);
  virtual ~SummaryWriter() = default;

  // Appends one point. Fails when the disk does; the writer stays usable and the torn frame, if
  // any, is cut off.
  virtual absl::Status Scalar(std::string_view tag, int64_t step, double value, int64_t now_ms) = 0;

  virtual const std::string& path() const = 0;
};

}  // namespace muster
