#include "worker/shuffle.h"

#include <utility>

#include "kernels/philox.h"
#include "telemetry/check.h"

namespace muster::worker {

int64_t ShuffledIndex(int64_t n, uint64_t seed, int64_t position) {
  const PhiloxKey key = DeriveKey(seed, HashName("shuffle"), static_cast<uint64_t>(position / n));
  return Permute(n, key, position % n);
}

Order TrainingOrder(int64_t size, uint64_t seed, int32_t replicas, int64_t batch) {
  CHECK_GE(size, 1);
  return [=](int64_t step, int32_t replica) {
    std::vector<Pick> picks(batch);
    int64_t position = (step * replicas + replica) * batch;
    for (Pick& pick : picks) {
      pick = {ShuffledIndex(size, seed, position), position};
      ++position;
    }
    return picks;
  };
}

Order EvaluationOrder(int64_t size, int32_t shares, int64_t batch) {
  CHECK_GE(shares, 1);
  return [=](int64_t step, int32_t share) {
    std::vector<Pick> picks;
    int64_t index = share + step * batch * shares;
    for (int64_t i = 0; i < batch && index < size; ++i, index += shares)
      picks.push_back({index, 0});
    return picks;
  };
}

Order ShareOf(Order order, size_t share, size_t shares) {
  CHECK_LT(share, shares);
  if (shares == 1) return order;
  return [order = std::move(order), share, shares](int64_t step, int32_t replica) {
    const std::vector<Pick> all = order(step, replica);
    const auto begin = all.begin();
    return std::vector<Pick>(begin + static_cast<ptrdiff_t>(all.size() * share / shares),
                             begin + static_cast<ptrdiff_t>(all.size() * (share + 1) / shares));
  };
}

int64_t LargestShare(int64_t batch, size_t shares) {
  const auto n = static_cast<int64_t>(shares);
  return (batch + n - 1) / n;
}

}  // namespace muster::worker
