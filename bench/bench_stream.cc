// What a gRPC stream carries between two processes over loopback, beside raw TCP in the same run.
//
// The parent pushes slices, `window` of them in flight, from a pool larger than the caches; the
// child adds each to a tensor, straight from the bytes as they were received, and acknowledges it
// with a bare header. The roof is the same over a TCP socket: one thread receives into one buffer
// and adds. Rounds of both are interleaved; what counts is the ratio within a round.
//
// bench_stream [--smoke]
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "ps/wire.h"
#include "rpc/allocator.h"
#include "rpc/grpc_transport.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"

namespace muster {
namespace {

constexpr size_t kPoolBytes = 64 << 20;
constexpr size_t kMaxSlice = 16 << 20;
constexpr size_t kChunkFloats = 32 << 10;  // of raw TCP's receive buffer: 128 KiB

rpc::Hello SelfHello() { return {rpc::kProtocolVersion, "bench", "bench", "params", "bench", 0}; }

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Add(std::vector<float>& sum, int64_t begin, const std::byte* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    float value;
    std::memcpy(&value, src + i * sizeof(float), sizeof(float));
    sum[begin + i] += value;
  }
}

void MustSend(int fd, iovec* parts, int count) {
  while (count > 0) {
    const ssize_t sent = writev(fd, parts, count);
    CHECK(sent > 0);
    size_t left = static_cast<size_t>(sent);
    while (count > 0 && left >= parts->iov_len) {
      left -= parts->iov_len;
      ++parts;
      --count;
    }
    if (count > 0) {
      parts->iov_base = static_cast<char*>(parts->iov_base) + left;
      parts->iov_len -= left;
    }
  }
}

bool Receive(int fd, void* to, size_t size) {
  return recv(fd, to, size, MSG_WAITALL) == ssize_t(size);
}

void TuneSocket(int fd) {
  const int one = 1;
  CHECK_EQ(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
  // As the transport does on loopback; where the kernel has no cubic both use its default.
  (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

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
  std::vector<float> sum_ = std::vector<float>(kMaxSlice / sizeof(float));
};

void ServeTcp(int listening) {
  std::vector<float> sum(kMaxSlice / sizeof(float));
  std::vector<float> chunk(kChunkFloats);
  for (;;) {
    const int fd = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    TuneSocket(fd);
    rpc::Header header;
    while (Receive(fd, &header, sizeof(header))) {
      // In chunks that are still in the cache when they are added.
      const size_t floats = header.payload_bytes / sizeof(float);
      for (size_t begin = 0; begin < floats; begin += chunk.size()) {
        const size_t n = std::min(chunk.size(), floats - begin);
        CHECK(Receive(fd, chunk.data(), n * sizeof(float)));
        Add(sum, static_cast<int64_t>(begin), reinterpret_cast<const std::byte*>(chunk.data()),
            static_cast<int64_t>(n));
      }
      header.payload_bytes = 0;
      iovec answer = {&header, sizeof(header)};
      MustSend(fd, &answer, 1);
    }
    close(fd);
  }
}

// Prints "<tcp port> <gRPC address>" and serves until the parent is gone.
int Child() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  TuneSocket(listening);
  sockaddr_in self = {.sin_family = AF_INET};
  self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(self);
  CHECK_EQ(bind(listening, reinterpret_cast<sockaddr*>(&self), size), 0);
  CHECK_EQ(listen(listening, 4), 0);
  CHECK_EQ(getsockname(listening, reinterpret_cast<sockaddr*>(&self), &size), 0);
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
  fmt::print("{} {}\n", ntohs(self.sin_port), (*listener)->address());
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

// Slices one after another through a pool that no cache holds.
class Pool {
 public:
  std::span<const std::byte> Next(size_t bytes) {
    if (at_ + bytes > pool_.size()) at_ = 0;
    at_ += bytes;
    return std::span(pool_).subspan(at_ - bytes, bytes);
  }

 private:
  std::vector<std::byte> pool_ = std::vector<std::byte>(kPoolBytes, std::byte{1});
  size_t at_ = 0;
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

class TcpPusher {
 public:
  explicit TcpPusher(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    TuneSocket(fd_);
    sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  }
  ~TcpPusher() { close(fd_); }
  double Run(const Load& load, double seconds, Pool& pool) {
    const double begin = Now();
    int64_t sent = 0, acked = 0;
    rpc::Header answer;
    for (; Now() - begin < seconds; ++sent) {
      for (; sent - acked >= static_cast<int64_t>(load.window); ++acked) {
        CHECK(Receive(fd_, &answer, sizeof(answer)));
      }
      rpc::Header header;
      header.payload_bytes = load.bytes;
      const auto bytes = pool.Next(load.bytes);
      iovec parts[] = {{&header, sizeof(header)},
                       {const_cast<std::byte*>(bytes.data()), bytes.size()}};
      MustSend(fd_, parts, 2);
    }
    for (; acked < sent; ++acked) CHECK(Receive(fd_, &answer, sizeof(answer)));
    return sent / (Now() - begin);
  }

 private:
  const int fd_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Measure(const Load& load, int rounds, double seconds, TcpPusher& tcp, GrpcPusher& grpc) {
  Pool pool;
  std::vector<double> raw, ours, ratio;
  for (int round = 0; round < rounds; ++round) {
    raw.push_back(tcp.Run(load, seconds, pool));
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
