#include "bench/raw_tcp.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "rpc/message.h"
#include "telemetry/check.h"

namespace muster::bench {
namespace {

constexpr size_t kChunkFloats = 32 << 10;  // of the receive buffer: 128 KiB

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

sockaddr_in AddressOf(const std::string& address, int port) {
  sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
  CHECK_EQ(inet_pton(AF_INET, address.c_str(), &out.sin_addr), 1);
  return out;
}

}  // namespace

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

std::span<const std::byte> Pool::Next(size_t bytes) {
  if (at_ + bytes > pool_.size()) at_ = 0;
  at_ += bytes;
  return std::span(pool_).subspan(at_ - bytes, bytes);
}

int ListenTcp(const std::string& address, int port) {
  const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  TuneSocket(listening);
  const sockaddr_in self = AddressOf(address, port);
  CHECK_EQ(bind(listening, reinterpret_cast<const sockaddr*>(&self), sizeof(self)), 0);
  CHECK_EQ(listen(listening, 4), 0);
  return listening;
}

int PortOf(int listening) {
  sockaddr_in self = {};
  socklen_t size = sizeof(self);
  CHECK_EQ(getsockname(listening, reinterpret_cast<sockaddr*>(&self), &size), 0);
  return ntohs(self.sin_port);
}

void ServeTcp(int listening) {
  std::vector<float> sum(kMaxSliceBytes / sizeof(float));
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

TcpPusher::TcpPusher(const std::string& address, int port)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  TuneSocket(fd_);
  const sockaddr_in to = AddressOf(address, port);
  CHECK_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
}

TcpPusher::~TcpPusher() { close(fd_); }

double TcpPusher::Run(size_t slice_bytes, size_t window, double seconds, Pool& pool) {
  const double begin = Now();
  int64_t sent = 0, acked = 0;
  rpc::Header answer;
  for (; Now() - begin < seconds; ++sent) {
    for (; sent - acked >= static_cast<int64_t>(window); ++acked) {
      CHECK(Receive(fd_, &answer, sizeof(answer)));
    }
    rpc::Header header;
    header.payload_bytes = slice_bytes;
    const auto bytes = pool.Next(slice_bytes);
    iovec parts[] = {{&header, sizeof(header)},
                     {const_cast<std::byte*>(bytes.data()), bytes.size()}};
    MustSend(fd_, parts, 2);
  }
  for (; acked < sent; ++acked) CHECK(Receive(fd_, &answer, sizeof(answer)));
  return sent / (Now() - begin);
}

}  // namespace muster::bench
