// Communicator: collective operations of the devices that one process drives; rank r is the r-th of
// them.
//
// One call is the call of all ranks: streams[r], send[r] and receive[r] are rank r's, on its own
// device, and so have as many elements as there are ranks. It enqueues and returns; what a rank
// does begins when the streams of all ranks have come that far. Used by one thread; the devices and
// streams are borrowed.
//
// Sums have one order for given devices and arguments, which is the implementation's: rank order in
// memory of the host, that of its rings in NCCL. So results are the same bits each time on machines
// that are alike; two ranks have one order alone.
//
// A rank whose device fails leaves the others waiting. Who waits for them asks all ranks in turn,
// and calls Abort when one has failed.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/stream.h"
#include "telemetry/status.h"

namespace muster {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int ranks() const = 0;

  // receive[r][i] = sum over ranks k of send[k][r * count + i], for i < count. Buffers do not
  // overlap. Fails when it cannot be enqueued, or after Abort.
  virtual absl::Status ReduceScatter(std::span<Stream* const> streams,
                                     std::span<const float* const> send,
                                     std::span<float* const> receive, int64_t count) = 0;
  // receive[r][k * count + i] = send[k][i], for each rank k and i < count. send[r] may be
  // receive[r] + r * count. Fails likewise.
  virtual absl::Status AllGather(std::span<Stream* const> streams,
                                 std::span<const float* const> send,
                                 std::span<float* const> receive, int64_t count) = 0;

  // What has gone wrong between the ranks since; OK while nothing has. Does not wait.
  virtual absl::Status status() = 0;
  // Lets every rank go that waits for another; what it was to receive is undefined.
  virtual void Abort() = 0;
};

}  // namespace muster
