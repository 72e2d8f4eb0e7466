// The frames between launcher and node (cluster/node.proto). FrameReader is owned by one thread.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "telemetry/status.h"

namespace muster::cluster {

// Parts of files and logs are this long at most, and so no frame is longer than kMaxFrameBytes.
inline constexpr size_t kMaxPartBytes = size_t{1} << 20;
inline constexpr size_t kMaxFrameBytes = kMaxPartBytes + (size_t{64} << 10);

std::string EncodeFrame(const google::protobuf::MessageLite& message);

// Writes all of it, waiting where the pipe is full. Fails when the other end is gone.
absl::Status WritePipe(int fd, std::string_view bytes);

class FrameReader {
 public:
  enum class State { kOpen, kEnd };

  // Reads what is there (blocks if `fd` does and there is nothing) and calls `on_frame` for each
  // whole frame. kEnd at the end of the input. Fails on a frame that is too long, or when
  // `on_frame` does.
  absl::StatusOr<State> Read(int fd, const std::function<absl::Status(std::string_view)>& on_frame);
  // The same for bytes that were read elsewhere.
  absl::Status Take(std::string_view bytes,
                    const std::function<absl::Status(std::string_view)>& on_frame);

 private:
  std::string partial_;
};

}  // namespace muster::cluster
