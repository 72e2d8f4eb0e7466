#include "bench/load.h"

#include <errno.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "ps/server.h"
#include "rpc/grpc_transport.h"
#include "rpc/shared_transport.h"
#include "telemetry/check.h"

namespace muster::bench {

void Die(const absl::Status& status) {
  fmt::print(stderr, "{}: {}\n", program_invocation_short_name, std::string(status.message()));
  std::exit(1);
}

std::vector<std::string> Load::words(std::string role) const {
  return {std::move(role),
          fmt::format("--shared={}", shared),
          fmt::format("--params={}", params),
          fmt::format("--elements={}", elements),
          fmt::format("--replicas={}", replicas),
          fmt::format("--optimizer={}", optimizer),
          fmt::format("--codec={}", codec),
          fmt::format("--fused={}", fused),
          fmt::format("--mode={}", mode),
          fmt::format("--tiny={}", tiny),
          fmt::format("--servers={}", servers),
          fmt::format("--server={}", server),
          fmt::format("--listen={}", listen),
          fmt::format("--tls={}", tls)};
}

float WeightAfter(const Load& load, int64_t steps) {
  const double mean = static_cast<double>(load.replicas + 1) / 2;
  return static_cast<float>(-kRate *
                            (static_cast<double>(steps) * mean + static_cast<double>(steps / 2)));
}

ps::ParamTable TableOf(const Load& load) {
  std::vector<ps::ParamSpec> specs(load.params);
  for (int i = 0; i < load.params; ++i) {
    specs[i].name = fmt::format("p{}", i);
    specs[i].shape = {load.elements};
    if (load.codec != "none") specs[i].codec = Must(MakeCodec(load.codec));
  }
  if (load.tiny > 0) specs.push_back({.name = "tiny", .shape = {load.tiny}});
  return Must(ps::ParamTable::Make(specs));
}

ps::Partition PartitionOf(const Load& load, const ps::ParamTable& table) {
  if (load.fused) return ps::MakePartition(table, load.servers);
  ps::Partition out;
  out.num_servers = load.servers;
  for (int i = 0; i < load.params; ++i) {
    out.slices.push_back({i, 0, load.elements});
    out.server.push_back(i % load.servers);
    out.of_param.push_back({i});
  }
  return out;
}

rpc::Identity IdentityOfBench() { return Must(rpc::ParseIdentity(std::getenv(kIdentityVariable))); }

std::unique_ptr<rpc::Transport> TransportOf(const Load& load, Log& log) {
  // As the transport does on loopback, also between the ends of paced links.
  rpc::GrpcOptions options{.congestion_control = "cubic"};
  if (load.tls) options.identity = IdentityOfBench();
  auto grpc = Must(rpc::MakeGrpcTransport(std::move(options), log));
  if (!load.shared) return grpc;
  return Must(rpc::MakeSharedTransport(std::move(grpc), log));
}

rpc::Hello HelloOf(const char* role) {
  return {rpc::kProtocolVersion, "bench", "bench", "params", role, 0};
}

void Serve(const Load& load) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto log = Log::Discard();
  const auto transport = TransportOf(load, *log);
  const ps::ParamTable table = TableOf(load);
  const ps::Partition partition = PartitionOf(load, table);
  const auto policy = Must(ps::MakeConsistencyPolicy(load.mode, 0));
  const auto optimizer = Must(ps::MakeOptimizer(load.optimizer, {}));
  ps::ServerOptions options;
  options.index = load.server;
  options.num_replicas = load.replicas;
  options.allocate = [&](size_t size) { return transport->Allocate(size); };
  const auto server = ps::Server::Make(
      table, partition, *policy, *optimizer, [](int64_t) { return kRate; }, options, {}, *log);
  CHECK(server->Initialize().ok());
  const auto listener =
      Must(transport->Listen(load.listen + ":0", HelloOf("ps"), server->acceptor()));
  fmt::print("{}\n", listener->address());
  std::fflush(stdout);
  for (;;) pause();
}

}  // namespace muster::bench
