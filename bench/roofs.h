// The roofs that bench_pushpull compares its rows with, each on one thread and over working sets
// that no cache holds; and how it measures a rate and a time.
//
// Free functions, thread-compatible. For benchmarks: what fails ends the program.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/raw_futex.h"
#include "rpc/identity.h"

namespace muster::bench {

// Calls `once` for about `seconds`; its rate per second.
double RateOf(double seconds, const std::function<void()>& once);

// Calls `once` for about `seconds`, `pause_us` after the last call's end; what each takes in µs.
std::vector<double> TimesOf(double seconds, int pause_us, const std::function<void()>& once);
double TimeOf(double seconds, int pause_us, const std::function<void()>& once);  // their median

inline constexpr int kAsleep_us = 1000;  // long after it both ends sleep

// Measures for about `seconds`.
using Roof = std::function<double(double seconds)>;

// GB/s that memcpy copies.
Roof MemcpyRoof();
// GB/s of gradients: added to a sum; into a Momentum update in one pass over memory.
Roof SumRoof();
Roof MomentumRoof();
// GB/s of gradients over one loopback TCP connection to ServeTcp, over one stream to ServeStreams,
// both in a process of their own. With an identity they are encrypted.
Roof TcpRoof(int port, const rpc::Identity& identity = {});
Roof StreamRoof(const std::string& address, const rpc::Identity& identity = {});
// What an unencrypted one could be if each byte were encrypted by AES-256-GCM on one core besides,
// at OpenSSL's rate: 1 / (1 / stream + 1 / AES).
Roof TlsRoof(const std::string& address);
// µs of a round trip, both ends asleep before it.
Roof FutexRoof(const std::shared_ptr<FutexPair>& pair);

}  // namespace muster::bench
