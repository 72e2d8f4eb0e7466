// A Transport over another one that holds every message back for a random time: what is right must
// not depend on timing.
//
// Each direction of each stream keeps its order; directions and streams overtake each other. Delays
// are functions of (seed, stream, message). Thread-safe; one timer thread. Sends, hence the peer's
// handlers with the in-process transport, run on that thread.
#pragma once

#include <cstdint>
#include <memory>

#include "rpc/transport.h"

namespace muster::harness {

struct DelayOptions {
  uint64_t seed = 1;               // to be printed by the test
  int64_t max_delay_us = 2'000;    // uniform in [0, max]
  int64_t rare_delay_us = 20'000;  // one message in 64 waits this long
};

// `inner` is borrowed and outlives the result. Destroying the result or
// a listener sends at once what is still held back.
std::unique_ptr<rpc::Transport> MakeDelayTransport(rpc::Transport& inner, DelayOptions options);

}  // namespace muster::harness
