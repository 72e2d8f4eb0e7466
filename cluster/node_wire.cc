#include "cluster/node_wire.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster::cluster {

std::string EncodeFrame(const google::protobuf::MessageLite& message) {
  std::string frame(sizeof(uint32_t), '\0');
  CHECK(message.AppendToString(&frame));
  const auto size = static_cast<uint32_t>(frame.size() - sizeof(uint32_t));
  CHECK(size <= kMaxFrameBytes);
  std::memcpy(frame.data(), &size, sizeof(size));
  return frame;
}

absl::Status WritePipe(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd full{fd, POLLOUT, 0};
      poll(&full, 1, -1);
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, "cannot write to the other end");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<FrameReader::State> FrameReader::Read(
    int fd, const std::function<absl::Status(std::string_view)>& on_frame) {
  std::vector<char> buffer(size_t{256} << 10);
  ssize_t n;
  do {
    n = read(fd, buffer.data(), buffer.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return State::kOpen;
  if (n <= 0) return State::kEnd;
  RETURN_IF_ERROR(Take({buffer.data(), static_cast<size_t>(n)}, on_frame));
  return State::kOpen;
}

absl::Status FrameReader::Take(std::string_view bytes,
                               const std::function<absl::Status(std::string_view)>& on_frame) {
  partial_.append(bytes);
  size_t begin = 0;
  for (;;) {
    uint32_t size;
    if (partial_.size() - begin < sizeof(size)) break;
    std::memcpy(&size, partial_.data() + begin, sizeof(size));
    if (size > kMaxFrameBytes) {
      return absl::InvalidArgumentError(fmt::format("a frame of {} bytes", size));
    }
    if (partial_.size() - begin - sizeof(size) < size) break;
    RETURN_IF_ERROR(on_frame(std::string_view(partial_).substr(begin + sizeof(size), size)));
    begin += sizeof(size) + size;
  }
  partial_.erase(0, begin);
  return absl::OkStatus();
}

}  // namespace muster::cluster
