#include "bench/raw_tcp.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "rpc/message.h"
#include "rpc/openssl.h"
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

int ConnectTcp(const std::string& address, int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  TuneSocket(fd);
  const sockaddr_in to = AddressOf(address, port);
  CHECK_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  return fd;
}

using Context = std::unique_ptr<SSL_CTX, rpc::Freer<SSL_CTX_free>>;
using Session = std::unique_ptr<SSL, rpc::Freer<SSL_free>>;

Session MutualTls(int fd, const rpc::Identity& identity) {
  const rpc::Certificate authority = rpc::CertificateFromPem(identity.authority),
                         certificate = rpc::CertificateFromPem(identity.certificate);
  const rpc::Key key = rpc::KeyFromPem(identity.key);
  const Context context(SSL_CTX_new(TLS_method()));
  CHECK_EQ(SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION), 1);
  CHECK_EQ(SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_256_GCM_SHA384"), 1);
  CHECK_EQ(SSL_CTX_use_certificate(context.get(), certificate.get()), 1);
  CHECK_EQ(SSL_CTX_use_PrivateKey(context.get(), key.get()), 1);
  CHECK_EQ(X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority.get()), 1);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  Session session(SSL_new(context.get()));
  CHECK_EQ(SSL_set_fd(session.get(), fd), 1);
  return session;
}

}  // namespace

// One end of a connection, which it closes.
class TcpConnection {
 public:
  TcpConnection(int fd, const rpc::Identity& identity, bool serves) : fd_(fd) {
    if (identity.empty()) return;
    tls_ = MutualTls(fd, identity);
    CHECK_EQ(serves ? SSL_accept(tls_.get()) : SSL_connect(tls_.get()), 1);
  }
  ~TcpConnection() { close(fd_); }
  TcpConnection(const TcpConnection&) = delete;
  TcpConnection& operator=(const TcpConnection&) = delete;

  // All of `parts`, which it uses up.
  void Send(std::span<iovec> parts) const {
    if (tls_ == nullptr) return MustSend(fd_, parts.data(), static_cast<int>(parts.size()));
    for (const iovec& part : parts) {
      CHECK_EQ(SSL_write(tls_.get(), part.iov_base, static_cast<int>(part.iov_len)),
               static_cast<int>(part.iov_len));
    }
  }
  // False: the peer has ended.
  bool Receive(void* to, size_t size) const {
    if (tls_ == nullptr) return recv(fd_, to, size, MSG_WAITALL) == static_cast<ssize_t>(size);
    for (size_t at = 0; at < size;) {
      const int n = SSL_read(tls_.get(), static_cast<char*>(to) + at, static_cast<int>(size - at));
      if (n <= 0) return false;
      at += static_cast<size_t>(n);
    }
    return true;
  }

 private:
  const int fd_;
  Session tls_;
};

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

void ServeTcp(int listening, const rpc::Identity& identity) {
  std::vector<float> sum(kMaxSliceBytes / sizeof(float));
  std::vector<float> chunk(kChunkFloats);
  for (;;) {
    const int fd = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    TuneSocket(fd);
    const TcpConnection connection(fd, identity, /*serves=*/true);
    rpc::Header header;
    while (connection.Receive(&header, sizeof(header))) {
      // In chunks that are still in the cache when they are added.
      const size_t floats = header.payload_bytes / sizeof(float);
      for (size_t begin = 0; begin < floats; begin += chunk.size()) {
        const size_t n = std::min(chunk.size(), floats - begin);
        CHECK(connection.Receive(chunk.data(), n * sizeof(float)));
        Add(sum, static_cast<int64_t>(begin), reinterpret_cast<const std::byte*>(chunk.data()),
            static_cast<int64_t>(n));
      }
      header.payload_bytes = 0;
      iovec answer[] = {{&header, sizeof(header)}};
      connection.Send(answer);
    }
  }
}

TcpPusher::TcpPusher(const std::string& address, int port, const rpc::Identity& identity)
    : connection_(std::make_unique<TcpConnection>(ConnectTcp(address, port), identity,
                                                  /*serves=*/false)) {}

TcpPusher::~TcpPusher() = default;

double TcpPusher::Run(size_t slice_bytes, size_t window, double seconds, Pool& pool) {
  const double begin = Now();
  int64_t sent = 0, acked = 0;
  rpc::Header answer;
  for (; Now() - begin < seconds; ++sent) {
    for (; sent - acked >= static_cast<int64_t>(window); ++acked) {
      CHECK(connection_->Receive(&answer, sizeof(answer)));
    }
    rpc::Header header;
    header.payload_bytes = slice_bytes;
    const auto bytes = pool.Next(slice_bytes);
    iovec parts[] = {{&header, sizeof(header)},
                     {const_cast<std::byte*>(bytes.data()), bytes.size()}};
    connection_->Send(parts);
  }
  for (; acked < sent; ++acked) CHECK(connection_->Receive(&answer, sizeof(answer)));
  return sent / (Now() - begin);
}

}  // namespace muster::bench
