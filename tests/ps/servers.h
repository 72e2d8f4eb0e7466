// Parameter servers of one job in this process, over the in-process transport or another.
// Thread-safe once made.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "ps/client.h"
#include "ps/server.h"
#include "rpc/inproc_transport.h"
#include "rpc/shared_transport.h"
#include "tests/harness/delay_transport.h"

namespace muster::ps {

struct JobOptions {
  std::string mode = "BSP";
  int64_t staleness = 0;
  int replicas = 1;
  int servers = 1;
  int shards = 1;
  std::string optimizer = "sgd";
  float learning_rate = 1;
  uint64_t seed = 1;
  int64_t held_bytes_budget = 1 << 20;
  float weight_decay = 0;
  float clip_norm = std::numeric_limits<float>::infinity();
  uint64_t delay_seed = 0;  // not 0: messages are held back for random times
  bool shared = false;      // tensors in shared memory, which both sides map
  int backups = 0;
  rpc::Transport* transport = nullptr;  // null: an in-process one
};

class Servers {
 public:
  Servers(const ParamTable& table, const JobOptions& options, ServerEvents events = {})
      : partition_(MakePartition(table, options.servers)),
        policy_(*MakeConsistencyPolicy(options.mode, options.staleness,
                                       /*scale_by_staleness=*/false, options.backups)),
        optimizer_(*MakeOptimizer(options.optimizer, {})),
        transport_(options.transport != nullptr ? *options.transport : *inproc_),
        listen_address_(options.transport != nullptr ? "127.0.0.1:0" : "inproc:0") {
    if (options.delay_seed != 0) {
      outer_ = harness::MakeDelayTransport(
          transport_, {.seed = options.delay_seed, .max_delay_us = 300, .rare_delay_us = 3'000});
    }
    if (options.shared) outer_ = *rpc::MakeSharedTransport(rpc::MakeInprocTransport(), *log_);
    for (int i = 0; i < options.servers; ++i) {
      ServerOptions server;
      server.index = i;
      server.num_shards = options.shards;
      server.num_replicas = options.replicas;
      server.seed = options.seed;
      server.weight_decay = options.weight_decay;
      server.clip_norm = options.clip_norm;
      server.held_bytes_budget = options.held_bytes_budget;
      server.allocate = [this](size_t size) { return transport().Allocate(size); };
      servers_.push_back(Server::Make(
          table, partition_, *policy_, *optimizer_,
          [rate = options.learning_rate](int64_t) { return rate; }, server, events, *log_));
    }
  }
  ~Servers() { Stop(); }

  void Initialize() {
    for (auto& server : servers_) EXPECT_TRUE(server->Initialize().ok());
    Listen();
  }
  absl::Status Restore(const std::vector<std::string>& files, int64_t clock) {
    for (auto& server : servers_) RETURN_IF_ERROR(server->Restore(files, clock));
    Listen();
    return absl::OkStatus();
  }
  void CutAt(int64_t clock, const std::string& directory) {
    for (auto& server : servers_) server->CutAt(clock, directory);
  }
  // Closes one server's streams and port.
  void StopListening(int server) { listeners_[static_cast<size_t>(server)].reset(); }
  // Ends all servers; cuts that are complete are written.
  void Stop() {
    listeners_.clear();
    servers_.clear();
  }

  rpc::Transport& transport() { return outer_ ? *outer_ : transport_; }
  const Partition& partition() const { return partition_; }
  const std::vector<std::string>& addresses() const { return addresses_; }
  Server& server(int i) { return *servers_[static_cast<size_t>(i)]; }
  Log& log() { return *log_; }

 private:
  void Listen() {
    for (size_t i = 0; i < servers_.size(); ++i) {
      rpc::Hello self;
      self.role = "ps";
      self.index = static_cast<int>(i);
      listeners_.push_back(*transport().Listen(listen_address_, self, servers_[i]->acceptor()));
      addresses_.push_back(listeners_.back()->address());
    }
  }

  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> inproc_ = rpc::MakeInprocTransport();
  std::unique_ptr<rpc::Transport> outer_;  // or null
  const Partition partition_;
  const std::unique_ptr<const ConsistencyPolicy> policy_;
  const std::unique_ptr<const Optimizer> optimizer_;
  rpc::Transport& transport_;
  const std::string listen_address_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::unique_ptr<rpc::Listener>> listeners_;
  std::vector<std::string> addresses_;
};

inline rpc::Hello WorkerHello(int index) {
  rpc::Hello hello;
  hello.service = "params";
  hello.role = "worker";
  hello.index = index;
  return hello;
}

// A client of all of them, as worker `index`.
inline absl::StatusOr<std::unique_ptr<Client>> ConnectWorker(Servers& servers,
                                                             const ParamTable& table, int index,
                                                             ClientOptions options = {}) {
  return Client::Connect(servers.transport(), servers.addresses(), WorkerHello(index), table,
                         servers.partition(), options, servers.log());
}

}  // namespace muster::ps
