// Declare: tells parameter servers that run without a master (ps/declared_server.h) what they are
// to hold.
//
// Free function, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ps/param.h"
#include "rpc/transport.h"
#include "telemetry/status.h"

namespace muster::ps {

// Returns OK when every server holds its part of `table` for `num_replicas` replicas, whoever
// declared it first. Fails with FailedPrecondition when a server holds something else,
// DeadlineExceeded after `timeout_ms`, and otherwise with what the server or the connection said;
// the text names the server. `self`: its service is filled in.
absl::Status Declare(rpc::Transport& transport, const std::vector<std::string>& servers,
                     const rpc::Hello& self, const ParamTable& table, int num_replicas,
                     int64_t timeout_ms);

}  // namespace muster::ps
