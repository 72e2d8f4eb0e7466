#include "cluster/node_link.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr std::string_view kMark = "muster: ";
// More than this without a mark is no shell's greeting.
constexpr int64_t kLastWordsMs = 2000;
constexpr size_t kMaxGreetingBytes = size_t{1} << 20;

// As gzip notes it in the last four bytes.
int64_t UnpackedBytes(const std::string& archive) {
  uint32_t size = 0;
  if (archive.size() < sizeof(size)) return 0;
  std::memcpy(&size, archive.data() + archive.size() - sizeof(size), sizeof(size));
  return size;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NodeLink>> NodeLink::Start(Options options, Bundle bundle) {
  std::unique_ptr<NodeLink> link(new NodeLink(std::move(options), std::move(bundle)));
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  if (pipe2(out, O_CLOEXEC) != 0) {
    const int error = errno;
    close(in[0]);
    close(in[1]);
    return ErrnoStatus(error, "cannot make a pipe");
  }
  link->in_fd_ = in[1];
  link->out_fd_ = out[0];
  link->err_fd_ = memfd_create("complaints", MFD_CLOEXEC);
  fcntl(link->in_fd_, F_SETFL, O_NONBLOCK);
  fcntl(link->out_fd_, F_SETFL, O_NONBLOCK);
  ProcessSpec spec;
  spec.name = link->options_.name;
  spec.argv = link->options_.argv;
  spec.environment = link->options_.environment;
  spec.log_path = "/dev/null";
  spec.fds = {{in[0], 0}, {out[1], 1}, {link->err_fd_, 2}};
  auto process = Process::Start(spec);
  close(in[0]);
  close(out[1]);
  RETURN_IF_ERROR(process.status());
  link->process_ = *std::move(process);
  return link;
}

std::unique_ptr<NodeLink> NodeLink::Missing(std::string name) {
  std::unique_ptr<NodeLink> link(new NodeLink({.name = std::move(name)}, nullptr));
  link->Fail(absl::UnavailableError("it is not there any more"));
  return link;
}

NodeLink::~NodeLink() {
  // The last words; then the end of its input has the node end, and then the command.
  const int64_t deadline = MonotonicMillis() + kLastWordsMs;
  while (status_.ok() && !queue_.empty() && MonotonicMillis() < deadline) {
    pollfd full{in_fd_, POLLOUT, 0};
    if (poll(&full, 1, 100) > 0 && (full.revents & POLLERR) != 0) break;
    Write();
  }
  if (in_fd_ >= 0) close(in_fd_);
  if (process_ != nullptr && process_->running()) {
    pollfd ended{process_->pidfd(), POLLIN, 0};
    poll(&ended, 1, 2000);
  }
  process_.reset();
  if (out_fd_ >= 0) close(out_fd_);
  if (err_fd_ >= 0) close(err_fd_);
}

void NodeLink::Send(const NodeRequest& request) {
  if (!status_.ok()) return;
  Queue(std::make_shared<const std::string>(EncodeFrame(request)));
}

void NodeLink::Queue(std::shared_ptr<const std::string> bytes) {
  queue_.push_back(std::move(bytes));
  Write();
}

void NodeLink::Watch(std::vector<pollfd>* fds) const {
  if (!status_.ok()) return;
  fds->push_back({out_fd_, POLLIN, 0});
  if (!queue_.empty()) fds->push_back({in_fd_, POLLOUT, 0});
}

void NodeLink::Pump(const std::function<void(const NodeEvent&)>& on_event) {
  if (!status_.ok()) return;
  Write();
  Read(on_event);
}

void NodeLink::Write() {
  while (!queue_.empty()) {
    const std::string& bytes = *queue_.front();
    const ssize_t n = write(in_fd_, bytes.data() + written_, bytes.size() - written_);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;  // full, or gone: what is read tells
    written_ += static_cast<size_t>(n);
    if (written_ < bytes.size()) continue;
    queue_.pop_front();
    written_ = 0;
  }
}

void NodeLink::Read(const std::function<void(const NodeEvent&)>& on_event) {
  std::array<char, size_t{64} << 10> buffer{};
  for (int turn = 0; turn < 64 && status_.ok(); ++turn) {
    const ssize_t n = read(out_fd_, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    if (n == 0) return Fail(absl::UnavailableError(Complaint()));
    const std::string_view bytes(buffer.data(), static_cast<size_t>(n));
    const absl::Status taken =
        phase_ == Phase::kLines ? TakeLines(bytes, on_event) : TakeFrames(bytes, on_event);
    if (!taken.ok()) Fail(taken);
  }
}

absl::Status NodeLink::TakeLines(std::string_view bytes,
                                 const std::function<void(const NodeEvent&)>& on_event) {
  lines_ += bytes;
  for (size_t end; (end = lines_.find('\n')) != std::string::npos;) {
    const std::string line = lines_.substr(0, end);
    lines_.erase(0, end + 1);
    if (!std::string_view(line).starts_with(kMark)) continue;
    const std::string said = line.substr(kMark.size());
    if (said == "ready") {
      phase_ = Phase::kFrames;
      return TakeFrames(std::exchange(lines_, {}), on_event);
    }
    const std::string missing = "missing ";
    int64_t free_kib = 0;
    if (!said.starts_with(missing) || !absl::SimpleAtoi(said.substr(missing.size()), &free_kib)) {
      return absl::FailedPreconditionError(said);
    }
    RETURN_IF_ERROR(SendBundle(free_kib));
  }
  if (lines_.size() > kMaxGreetingBytes) return absl::InvalidArgumentError("it says no line");
  return absl::OkStatus();
}

absl::Status NodeLink::SendBundle(int64_t free_kib) {
  ASSIGN_OR_RETURN(std::shared_ptr<const std::string> bundle, bundle_());
  const int64_t need_kib = (UnpackedBytes(*bundle) >> 10) + 1;
  if (free_kib < need_kib) {
    return absl::ResourceExhaustedError(
        fmt::format("its disk has {} MiB left, and the programs need {}: make room, or name a "
                    "folder on another disk in cluster.ssh.directory",
                    free_kib >> 10, (need_kib >> 10) + 1));
  }
  Queue(std::make_shared<const std::string>(fmt::format("{}\n", bundle->size())));
  Queue(std::move(bundle));
  return absl::OkStatus();
}

absl::Status NodeLink::TakeFrames(std::string_view bytes,
                                  const std::function<void(const NodeEvent&)>& on_event) {
  return reader_.Take(bytes, [&](std::string_view frame) {
    NodeEvent event;
    if (!event.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
      return absl::InvalidArgumentError("it says what is no event of a node");
    }
    if (event.has_hello()) hello_ = event.hello();
    on_event(event);
    return absl::OkStatus();
  });
}

void NodeLink::Fail(const absl::Status& status) {
  status_ = absl::Status(status.code(),
                         fmt::format("host {}: {}", name(), std::string(status.message())));
}

std::string NodeLink::Complaint() const {
  std::string text(kMaxPartBytes, '\0');
  const ssize_t n = pread(err_fd_, text.data(), text.size(), 0);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, n)));
  return options_.explain(text);
}

}  // namespace muster::cluster
