// JobServer: a Server with everything it refers to, made from the `training` of a job file.
//
// Thread-safe once made, as Server is; owns its parts.
#pragma once

#include <memory>

#include "configs/job.pb.h"
#include "ps/server.h"

namespace muster::ps {

// What `training` asks for. Fail with the valid names when there is no such mode, optimizer or
// hyper-parameter.
absl::StatusOr<std::unique_ptr<const Optimizer>> OptimizerOf(const Training& training);
absl::StatusOr<std::unique_ptr<const ConsistencyPolicy>> PolicyOf(const Training& training);

struct JobServer {
  // `options` says who the server is; what `training` decides is filled in. The server is neither
  // initialised nor restored. Fails where OptimizerOf and PolicyOf do. `log` is borrowed.
  static absl::StatusOr<std::unique_ptr<JobServer>> Make(ParamTable table, const Training& training,
                                                         int num_servers, ServerOptions options,
                                                         ServerEvents events, Log& log);

  ParamTable table;
  Partition partition;
  std::unique_ptr<const ConsistencyPolicy> policy;
  std::unique_ptr<const Optimizer> optimizer;
  std::unique_ptr<Server> server;  // destroyed first
};

}  // namespace muster::ps
