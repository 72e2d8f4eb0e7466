// DeclaredServer: a parameter server without a master. The first program that connects declares the
// parameters (ps/declare.h) and thereby sets the server up; later ones must declare the same.
//
// Thread-safe. Owns the server; outlives the streams of its acceptor (destroy the Listener first).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "configs/job.pb.h"
#include "ps/declaration.pb.h"
#include "ps/job_server.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/mutex.h"

namespace muster::ps {

struct DeclaredServerOptions {
  Training training;         // optimizer, schedule, consistency, seed, clipping, shards
  int64_t memory_bytes = 0;  // a model whose part needs more is refused
  std::function<std::shared_ptr<std::byte[]>(size_t size)> allocate;  // of ServerOptions
};

class DeclaredServer {
 public:
  // `log` is borrowed.
  DeclaredServer(DeclaredServerOptions options, Log& log)
      : options_(std::move(options)), log_(log) {}

  // For Transport::Listen: takes streams of service "declare", and once the parameters are declared
  // those of service "params".
  rpc::Acceptor acceptor();

 private:
  class Handler;

  // Answers a declaration: OK when this server holds what it says.
  absl::Status Declare(const rpc::Message& message);
  absl::StatusOr<std::unique_ptr<JobServer>> MakeServer(const Declaration& declaration) const;

  const DeclaredServerOptions options_;
  Log& log_;
  Mutex mu_;
  std::string declared_ ABSL_GUARDED_BY(mu_);  // the declaration that made the server
  std::unique_ptr<JobServer> server_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::ps
