// Load: what a benchmark of the parameter server trains, and the process that serves it. A model of
// equal parameters whose gradients are small integers, so that every sum is exact.
//
// A value type and free functions, thread-compatible. For benchmarks: what fails ends the program.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ps/param.h"
#include "rpc/identity.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/status.h"

namespace muster::bench {

// Ends the program with the reason.
[[noreturn]] void Die(const absl::Status& status);

// The value, or the end.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status());
  return *std::move(value);
}

// Of the environment, for the processes of a benchmark.
inline constexpr char kIdentityVariable[] = "MUSTER_BENCH_IDENTITY";
rpc::Identity IdentityOfBench();  // what it holds

// The learning rate: sums of small integers times it are exact.
inline constexpr float kRate = 1.0F / 1024;

// A model and how it is served.
struct Load {
  bool shared = false;  // else over the wire
  int params = 1;
  int64_t elements = 1;  // of one parameter
  int replicas = 1;      // all of them leases of the one worker
  std::string optimizer = "sgd";
  std::string codec = "none";  // of the gradients
  bool fused = true;           // small parameters, into bundles
  std::string mode = "BSP";
  int64_t tiny = 0;  // elements of one more parameter, the last
  int servers = 1;
  int server = 0;  // which one serves
  std::string listen = "127.0.0.1";
  bool tls = false;  // with the identity that kIdentityVariable holds

  // What the parameters must be can be told exactly.
  bool exact() const { return optimizer == "sgd" && mode == "BSP" && codec == "none"; }
  int64_t bytes() const { return params * elements * static_cast<int64_t>(sizeof(float)); }
  // The options of the program that does as `role`, an option, says.
  std::vector<std::string> words(std::string role) const;
};

// Of each element of replica `v`'s gradient in `step`: another one in every second step, so that
// what is left over from the step before shows.
inline float GradientOf(int v, int64_t step) { return static_cast<float>(v + 1 + step % 2); }
// Every element of the parameters after `steps` steps of an exact load.
float WeightAfter(const Load& load, int64_t steps);

ps::ParamTable TableOf(const Load& load);
ps::Partition PartitionOf(const Load& load, const ps::ParamTable& table);
std::unique_ptr<rpc::Transport> TransportOf(const Load& load, Log& log);
rpc::Hello HelloOf(const char* role);

// Prints its address and serves until the parent is gone.
[[noreturn]] void Serve(const Load& load);

}  // namespace muster::bench
