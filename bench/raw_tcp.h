// The roof of what goes over a socket: slices pushed over one loopback TCP connection and added to
// a tensor by one thread, in chunks that are still in the cache when they are added; plain, or
// encrypted by OpenSSL right above the socket. Also the pool that slices come from. For benchmarks:
// what fails ends the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rpc/identity.h"

namespace muster::bench {

// Of the longest slice.
inline constexpr size_t kMaxSliceBytes = 16 << 20;

// Seconds of a steady clock.
double Now();

// sum[begin + i] += the i-th of n floats at `src`, which may have any alignment.
void Add(std::vector<float>& sum, int64_t begin, const std::byte* src, int64_t n);

// Slices one after another through a pool of `bytes`: more than caches hold.
class Pool {
 public:
  explicit Pool(size_t bytes = 64 << 20) : pool_(bytes, std::byte{1}) {}
  std::span<const std::byte> Next(size_t bytes);

 private:
  std::vector<std::byte> pool_;
  size_t at_ = 0;
};

// A socket that listens on an IPv4 address; port 0: the system chooses.
int ListenTcp(const std::string& address, int port);
int PortOf(int listening);
// Sums what TcpPushers send, one of them after the other, for ever. With an identity both ends show
// one and speak TLS 1.3.
void ServeTcp(int listening, const rpc::Identity& identity = {});

class TcpConnection;

// A connection to ServeTcp.
class TcpPusher {
 public:
  TcpPusher(const std::string& address, int port, const rpc::Identity& identity = {});
  ~TcpPusher();
  // Pushes for about `seconds`, `window` slices in flight; slices per second.
  double Run(size_t slice_bytes, size_t window, double seconds, Pool& pool);

 private:
  const std::unique_ptr<TcpConnection> connection_;
};

}  // namespace muster::bench
