// A server's counters as metrics.
//
// Pure function: thread-safe.
#pragma once

#include <vector>

#include "ps/server.h"
#include "telemetry/metrics.h"

namespace muster::ps {

// Appends "muster_server_…" (docs/metrics.md).
void ServerMetrics(const ServerStats& stats, std::vector<Metric>& out);

}  // namespace muster::ps
