#include "bench/raw_stream.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "ps/wire.h"
#include "rpc/grpc_transport.h"
#include "telemetry/check.h"

namespace muster::bench {
namespace {

rpc::Hello SelfHello() { return {rpc::kProtocolVersion, "bench", "bench", "params", "bench", 0}; }

class SummingHandler : public rpc::StreamHandler {
 public:
  explicit SummingHandler(std::shared_ptr<rpc::Stream> stream) : stream_(std::move(stream)) {}
  void OnMessage(rpc::Message message) override {
    ps::ForEachRun(message.payload, int64_t{1} << 40,
                   [this](int64_t begin, const std::byte* src, int64_t n) {
                     Add(sum_, begin, src, n);
                     return true;
                   });
    stream_->Send(ps::AckMessage(message.header, ps::AckCode::kConsumed)).IgnoreError();
  }
  void OnClosed(absl::Status) override {}

 private:
  const std::shared_ptr<rpc::Stream> stream_;
  std::vector<float> sum_ = std::vector<float>(kMaxSliceBytes / sizeof(float));
};

std::unique_ptr<rpc::Transport> MakeTransport(Log& log, const rpc::Identity& identity) {
  auto transport = rpc::MakeGrpcTransport({.identity = identity}, log);
  CHECK(transport.ok());
  return *std::move(transport);
}

}  // namespace

void ServeStreams(const rpc::Identity& identity) {
  const auto log = Log::ToStderr("streams");
  const auto transport = MakeTransport(*log, identity);
  const auto listener = transport->Listen(
      "127.0.0.1:0", SelfHello(), [](const rpc::Hello&, std::shared_ptr<rpc::Stream> stream) {
        return absl::StatusOr<std::unique_ptr<rpc::StreamHandler>>(
            std::make_unique<SummingHandler>(std::move(stream)));
      });
  CHECK(listener.ok());
  fmt::print("{}\n", (*listener)->address());
  std::fflush(stdout);
  for (;;) pause();
}

class StreamPusher::Handler : public rpc::StreamHandler {
 public:
  explicit Handler(StreamPusher& pusher) : pusher_(pusher) {}
  void OnMessage(rpc::Message) override {
    MutexLock lock(pusher_.mu_);
    if (++pusher_.acked_ >= pusher_.wanted_) pusher_.changed_.NotifyAll();
  }
  void OnClosed(absl::Status) override {}

 private:
  StreamPusher& pusher_;
};

StreamPusher::StreamPusher(const std::string& address, const rpc::Identity& identity)
    : log_(Log::ToStderr("pusher")), transport_(MakeTransport(*log_, identity)) {
  auto stream = transport_->Connect(address, SelfHello(), std::make_unique<Handler>(*this), 10'000);
  CHECK(stream.ok());
  stream_ = *std::move(stream);
}

double StreamPusher::Run(size_t slice_bytes, size_t window, double seconds, Pool& pool) {
  const double begin = Now();
  int64_t sent = 0;
  while (Now() - begin < seconds) {
    WaitAcked(sent + 1 - static_cast<int64_t>(window));
    CHECK(
        stream_
            ->Send(ps::PushMessage(0, 0, sent, false, rpc::Payload::Borrow(pool.Next(slice_bytes))))
            .ok());
    ++sent;
  }
  WaitAcked(sent);
  const double rate = static_cast<double>(sent) / (Now() - begin);
  MutexLock lock(mu_);
  acked_ = 0;
  return rate;
}

void StreamPusher::WaitAcked(int64_t n) {
  MutexLock lock(mu_);
  wanted_ = n;
  while (acked_ < n) changed_.Wait(mu_);
}

}  // namespace muster::bench
