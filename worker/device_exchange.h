// DeviceExchange: the exchange of models on devices that have memory of their own, one device or
// several.
//
// Parameters lie in buckets: neighbours in ParamTable order, up to bucket_bytes, or one that is
// larger. A bucket whose gradients are complete on all G devices is reduce-scattered, and each
// device copies its slice of the sum to the host, beside what it goes on computing:
//
//   slice r of a bucket [begin, begin + n) = [begin + r s, begin + min((r + 1) s, n)),  s = ⌈n / G⌉
//                                            rounded up to four elements, 16 bytes
//
// Of one device the parameters that have a codec travel encoded (device_encoder.h).
//
// Parameters come back the same way: device r copies slice r of the whole arena from the host, then
// all of them gather the rest. One device does without the communicator, and its slice is all.
//
// One thread enqueues for all devices: nothing that it calls waits for a device until Finish, so
// they run side by side, and calls of the communicator have one order without locks. With several
// devices Finish asks all of them in turn instead of waiting for one: a device that failed leaves
// the others waiting, until the communicator lets them go.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/communicator.h"
#include "kernels/stream.h"
#include "ps/param.h"
#include "worker/device_encoder.h"
#include "worker/exchange.h"

namespace muster::worker {

inline constexpr int64_t kBucketBytes = 1 << 20;

// What the client reads and writes, each of table.arena_size() elements.
struct HostArenas {
  std::shared_ptr<float[]> weights;
  std::vector<std::shared_ptr<float[]>> gradients;  // by lease
};

// For models that compute on `streams`, each on another device; `communicator` has a rank for each,
// and may be null for one. `encoder` is of the device, or null: the client encodes. Borrows all but
// arenas and encoder. PRECONDITION: a stream, a lease; without an encoder where there are several.
std::unique_ptr<Exchange> MakeDeviceExchange(std::span<Stream* const> streams,
                                             Communicator* communicator,
                                             const ps::ParamTable& table, HostArenas host,
                                             int64_t bucket_bytes = kBucketBytes,
                                             std::unique_ptr<DeviceEncoder> encoder = nullptr);

}  // namespace muster::worker
