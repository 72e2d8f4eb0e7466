#include "telemetry/tensorboard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "telemetry/crc32c.h"
#include "telemetry/event.pb.h"
#include "telemetry/file.h"
#include "telemetry/host_name.h"

namespace muster {
namespace {

template <typename T>
void AppendLittleEndian(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Frame(const std::string& payload) {
  std::string frame;
  frame.reserve(payload.size() + 16);
  AppendLittleEndian(&frame, static_cast<uint64_t>(payload.size()));
  AppendLittleEndian(&frame, MaskCrc32c(Crc32c(frame)));
  frame += payload;
  AppendLittleEndian(&frame, MaskCrc32c(Crc32c(payload)));
  return frame;
}

class FileSummaryWriter : public SummaryWriter {
 public:
  FileSummaryWriter(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~FileSummaryWriter() override { close(fd_); }

  absl::Status Scalar(std::string_view tag, int64_t step, double value, int64_t now_ms) override {
    tensorboard::Event event;
    event.set_step(step);
    tensorboard::Summary::Value* point = event.mutable_summary()->add_value();
    point->set_tag(std::string(tag));
    point->set_simple_value(static_cast<float>(value));
    return Append(event, now_ms);
  }

  absl::Status Append(tensorboard::Event& event, int64_t now_ms) {
    event.set_wall_time(static_cast<double>(now_ms) / 1000);
    const std::string frame = Frame(event.SerializeAsString());
    const ssize_t n = pwrite(fd_, frame.data(), frame.size(), size_);
    if (n == static_cast<ssize_t>(frame.size())) {
      size_ += n;
      return absl::OkStatus();
    }
    const int error = n < 0 ? errno : ENOSPC;
    // The next frame is written over the torn one in any case.
    if (n > 0 && ftruncate(fd_, size_) != 0) {
      return ErrnoStatus(errno, fmt::format("cannot repair {}", path_));
    }
    return ErrnoStatus(error, fmt::format("cannot write {}", path_));
  }

  const std::string& path() const override { return path_; }

 private:
  const int fd_;
  const std::string path_;
  off_t size_ = 0;  // of the whole frames
};

}  // namespace

absl::StatusOr<std::unique_ptr<SummaryWriter>> SummaryWriter::Create(const std::string& directory,
                                                                     int64_t now_ms,
                                                                     int64_t resume_step) {
  if (mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("cannot make the folder {}", directory));
  }
  const std::string host = HostName();
  for (int n = 0;; ++n) {
    // TensorBoard reads the files of a folder in the order of their names.
    std::string path =
        fmt::format("{}/events.out.tfevents.{:010}.{}.{}", directory, now_ms / 1000, host, n);
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot make {}", path));
    auto writer = std::make_unique<FileSummaryWriter>(fd, std::move(path));
    tensorboard::Event version;
    version.set_file_version("brain.Event:2");
    RETURN_IF_ERROR(writer->Append(version, now_ms));
    if (resume_step >= 0) {
      tensorboard::Event start;
      start.set_step(resume_step);
      start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
      RETURN_IF_ERROR(writer->Append(start, now_ms));
    }
    return writer;
  }
}

}  // namespace muster
