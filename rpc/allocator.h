// The process's allocator, set for a data plane that allocates buffers of megabytes all the time.
#pragma once

namespace muster::rpc {

// To be called by main before it allocates much. Keeps glibc from mapping, faulting in and
// unmapping every receive buffer above 128 KiB (half of the throughput); freed memory stays with
// the process. All threads share one arena: with several, what one thread allocates and another
// frees stays behind in each, and a server's memory grew by a half in a minute. Changes nothing
// elsewhere than in glibc.
void TuneAllocator();

}  // namespace muster::rpc
