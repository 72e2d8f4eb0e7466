// What a gRPC stream carries between two processes over loopback, beside raw TCP in the same run.
//
// The parent pushes slices, `window` of them in flight, from a pool larger than the caches; the
// child adds each to a tensor, straight from the bytes as they were received, and acknowledges it
// with a bare header. The roof is the same over a TCP socket: one thread receives into one buffer
// and adds. Rounds of both are interleaved; what counts is the ratio within a round.
//
// bench_stream [--smoke]
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "bench/raw_tcp.h"
#include "bench/timing.h"
#include "ps/wire.h"
#include "rpc/allocator.h"
#include "rpc/grpc_transport.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"

namespace muster {
namespace {

using namespace bench;

rpc::Hello SelfHello() { return {rpc::kProtocolVersion, "bench", "bench", "params", "bench", 0}; }

// The child.

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

// Prints "<tcp port> <gRPC address>" and serves until the parent is gone.
int Child() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int port = 0;
  const int listening = ListenTcp(&port);
  auto log = Log::ToStderr("child");
  auto transport = rpc::MakeGrpcTransport({}, *log);
  CHECK(transport.ok());
  auto listener = (*transport)
                      ->Listen("127.0.0.1:0", SelfHello(),
                               [](const rpc::Hello&, std::shared_ptr<rpc::Stream> stream) {
                                 return absl::StatusOr<std::unique_ptr<rpc::StreamHandler>>(
                                     std::make_unique<SummingHandler>(std::move(stream)));
                               });
  CHECK(listener.ok());
  fmt::print("{} {}\n", port, (*listener)->address());
  std::fflush(stdout);
  ServeTcp(listening);
  return 0;
}

// The parent.

struct Load {
  const char* name;
  size_t bytes;   // of one slice
  size_t window;  // slices in flight
};

class GrpcPusher {
 public:
  explicit GrpcPusher(const std::string& address) {
    auto transport = rpc::MakeGrpcTransport({}, *log_);
    CHECK(transport.ok());
    transport_ = *std::move(transport);
    auto stream =
        transport_->Connect(address, SelfHello(), std::make_unique<Handler>(*this), 10'000);
    CHECK(stream.ok());
    stream_ = *std::move(stream);
  }
  // Slices per second.
  double Run(const Load& load, double seconds, Pool& pool) {
    const double begin = Now();
    int64_t sent = 0;
    while (Now() - begin < seconds) {
      WaitAcked(sent + 1 - static_cast<int64_t>(load.window));
      rpc::Message push =
          ps::PushMessage(0, 0, sent, false, rpc::Payload::Borrow(pool.Next(load.bytes)));
      CHECK(stream_->Send(std::move(push)).ok());
      ++sent;
    }
    WaitAcked(sent);
    const double rate = sent / (Now() - begin);
    MutexLock lock(mu_);
    acked_ = 0;
    return rate;
  }

 private:
  class Handler : public rpc::StreamHandler {
   public:
    explicit Handler(GrpcPusher& pusher) : pusher_(pusher) {}
    void OnMessage(rpc::Message) override {
      MutexLock lock(pusher_.mu_);
      if (++pusher_.acked_ >= pusher_.wanted_) pusher_.changed_.NotifyAll();
    }
    void OnClosed(absl::Status) override {}

   private:
    GrpcPusher& pusher_;
  };

  void WaitAcked(int64_t n) {
    MutexLock lock(mu_);
    wanted_ = n;
    while (acked_ < n) changed_.Wait(mu_);
  }

  Mutex mu_;
  CondVar changed_;
  int64_t acked_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t wanted_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<Log> log_ = Log::ToStderr("parent");
  std::unique_ptr<rpc::Transport> transport_;
  std::shared_ptr<rpc::Stream> stream_;
};

void Measure(const Load& load, int rounds, double seconds, TcpPusher& tcp, GrpcPusher& grpc) {
  Pool pool;
  std::vector<double> raw, ours, ratio;
  for (int round = 0; round < rounds; ++round) {
    raw.push_back(tcp.Run(load.bytes, load.window, seconds, pool));
    ours.push_back(grpc.Run(load, seconds, pool));
    ratio.push_back(ours.back() / raw.back());
  }
  const double gb = static_cast<double>(load.bytes) / 1e9;
  const auto [low, high] = std::minmax_element(ratio.begin(), ratio.end());
  fmt::print("{:<26} {:>10.2f} {:>10.2f} {:>12.0f} {:>8.2f} [{:.2f}, {:.2f}]\n", load.name,
             Median(raw) * gb, Median(ours) * gb, Median(ours), Median(ratio), *low, *high);
}

int Parent(bool smoke) {
  int out[2];
  CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  char name[] = "bench_stream", flag[] = "--child";
  char* argv[] = {name, flag, nullptr};
  pid_t child = 0;
  CHECK_EQ(posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  int port = 0;
  char address[64] = {};
  FILE* said = fdopen(out[0], "r");
  CHECK_EQ(std::fscanf(said, "%d %63s", &port, address), 2);
  std::fclose(said);

  const int rounds = smoke ? 1 : 9;
  const double seconds = smoke ? 0.05 : 0.4;
  {
    TcpPusher tcp(port);
    GrpcPusher grpc(address);
    fmt::print("{:<26} {:>10} {:>10} {:>12} {:>8} (ratios: median of {} rounds, [least, most])\n",
               "push, summed", "tcp GB/s", "gRPC GB/s", "gRPC msg/s", "ratio", rounds);
    for (const Load& load :
         {Load{"4 MiB, 4 in flight", 4 << 20, 4}, Load{"1 MiB, 4 in flight", 1 << 20, 4},
          Load{"256 KiB, 16 in flight", 256 << 10, 16}, Load{"64 KiB, 16 in flight", 64 << 10, 16},
          Load{"1 KiB, 64 in flight", 1 << 10, 64}}) {
      Measure(load, rounds, seconds, tcp, grpc);
    }
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  const std::string_view flag = argc > 1 ? argv[1] : "";
  muster::rpc::TuneAllocator();
  return flag == "--child" ? muster::Child() : muster::Parent(flag == "--smoke");
}
