// The rows paced_n_k: n workers push and pull a model of k servers, each process behind a link of
// its own of 200 Mbit/s (bench/paced_network.h), over gRPC, in BSP.
//
// What bounds the time of a step: a worker has to send and to receive all M bytes, and a server, of
// n workers, its k-th part of them; links carry both directions at once. So at the goodput B of TCP
// in the same network a step takes at least max(M / B, n M / (k B)). Both B and the rows use cubic,
// whatever the system's default is.
//
// Free functions, thread-compatible. For benchmarks: what fails ends the program.
#pragma once

#include <cstdint>

#include "bench/figures.h"
#include "bench/load.h"
#include "telemetry/status.h"

namespace muster::bench {

// Seconds of a step, from the word to begin until the last worker has all parameters, beside the
// bound; `rounds` of them, of `bytes` in slices of 1 MiB; B is taken over `tcp_seconds`. Fails with
// FailedPrecondition where there can be no such network.
absl::StatusOr<Figures> MeasurePaced(int workers, int servers, int64_t bytes, double tcp_seconds,
                                     int rounds);

// The processes it starts, as this program with other options: the switch, a server, the worker
// that is replica `replica`.
[[noreturn]] void RunPacedSwitch();
[[noreturn]] void RunPacedServer(const Load& load);
[[noreturn]] void RunPacedWorker(const Load& load, int replica);

}  // namespace muster::bench
