// Feed: how the samples of a data set get from the loader's threads into the memory that a model
// reads.
//
//   loader's thread     Begin → Set(i, pick) … → Send(n)
//   model's thread      Receive → the model reads the batch → Release
//
// Where the model computes on the host, samples are written where it reads them. Else they are
// written to pinned memory and travel on a stream of the feed's own, beside the model's computing;
// the model's stream waits for them, its thread does not. Where the data set has a front end for
// the device, its records travel in the samples' place, and it computes on that stream, too.
//
// A Feed is thread-safe; a Slot is used by one thread at a time. The feed outlives its slots; it
// borrows the model's stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/stream.h"
#include "telemetry/status.h"
#include "worker/dataset.h"
#include "worker/model.h"
#include "worker/shuffle.h"

namespace muster::worker {

class Feed {
 public:
  // The memory of one batch.
  class Slot {
   public:
    virtual ~Slot() = default;
    // Waits until what was last sent from here has arrived. Fails when the device has failed.
    virtual absl::Status Begin() = 0;
    // Makes sample `i` of the batch. Fails with what the data set says.
    virtual absl::Status Set(int64_t i, const Pick& pick) = 0;
    // The first `n` samples are a batch now, on its way to the model.
    virtual void Send(int64_t n) = 0;
    // The batch that was sent, for what the model's stream does from now on until Release.
    virtual Batch Receive() = 0;
    // What the model's stream does from now on does not read it; the slot can be filled again.
    virtual void Release() = 0;
    // The labels of the batch, on the host; as long as the batch.
    virtual std::span<const int32_t> labels() const = 0;
  };

  virtual ~Feed() = default;
  virtual std::unique_ptr<Slot> MakeSlot() = 0;
};

// For batches of up to `max_batch` samples, which the model reads on `compute` (Model::stream;
// null: on the host). Fails with what the data set's front end says.
absl::StatusOr<std::unique_ptr<Feed>> MakeFeed(std::shared_ptr<const Dataset> dataset,
                                               int64_t max_batch, Stream* compute);

}  // namespace muster::worker
