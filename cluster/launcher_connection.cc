#include "cluster/launcher_connection.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "cluster/keeper_socket.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

bool IsReady(int fd, int16_t events) {
  pollfd ready{fd, events, 0};
  return fd >= 0 && poll(&ready, 1, 0) > 0;
}

NodeEvent ErrorEvent(const std::string& text) {
  NodeEvent event;
  event.mutable_error()->set_text(text);
  return event;
}

}  // namespace

LauncherConnection::~LauncherConnection() {
  if (fd_ >= 0) close(fd_);
}

void LauncherConnection::Accept(const std::string& name) {
  accepted_ = true;
  name_ = name;
}

void LauncherConnection::Send(const NodeEvent& event) {
  if (fd_ >= 0) outbox_.Add(EncodeFrame(event));
}

void LauncherConnection::Watch(std::vector<pollfd>* fds) const {
  fds->push_back({listener_, POLLIN, 0});
  fds->push_back({fd_, static_cast<int16_t>(outbox_.empty() ? POLLIN : POLLIN | POLLOUT), 0});
}

void LauncherConnection::Read() {
  if (IsReady(fd_, POLLIN)) Hear();
  if (IsReady(listener_, POLLIN)) LetIn();
}

void LauncherConnection::Write() {
  if (fd_ >= 0 && !outbox_.Write(fd_)) Drop("is gone");
  if (fd_ >= 0 && MonotonicMillis() - heard_ms_ > silence_ms_) Drop("is silent");
}

void LauncherConnection::Hear() {
  const auto state = reader_.Read(fd_, [this](std::string_view frame) {
    NodeRequest request;
    if (!request.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
      return absl::InvalidArgumentError("not a request");
    }
    heard_ms_ = MonotonicMillis();
    return handlers_.on_request(request);
  });
  if (state.ok() && *state == FrameReader::State::kOpen) return;
  if (!state.ok()) {
    Send(ErrorEvent(fmt::format("the launcher's request is refused: {}",
                                std::string(state.status().message()))));
    outbox_.Write(fd_);
  }
  Drop(state.ok() ? "is gone" : "is not to be understood");
}

void LauncherConnection::LetIn() {
  // Whoever has gone already is in nobody's way; its last words count.
  while (IsReady(fd_, POLLRDHUP)) Hear();
  // It looks for another keeper when this one is gone.
  if (fd_ < 0 && handlers_.is_over()) return;
  const int fd = AcceptOwn(listener_);
  if (fd < 0) return;
  if (fd_ >= 0) {
    const std::string frame = EncodeFrame(ErrorEvent(fmt::format(
        "{} follows the job and was heard of {} s ago: end that one first, which keeps the job "
        "when it detaches",
        name_, (MonotonicMillis() - heard_ms_) / 1000)));
    (void)!write(fd, frame.data(), frame.size());
    close(fd);
    return;
  }
  came_ = true;
  fd_ = fd;
  heard_ms_ = MonotonicMillis();
  reader_ = FrameReader();
  name_ = "another launcher";
  accepted_ = false;
}

void LauncherConnection::Drop(const char* why) {
  close(std::exchange(fd_, -1));
  outbox_.Clear();
  handlers_.on_gone(name_, why);
}

}  // namespace muster::cluster
