// Which samples an item is made of: the order of training (shuffled, endless) and of evaluation (as
// the data set has them).
//
// Pure functions of logical indices: thread-safe, and the same on every replica. Step s of replica
// v < V with batch B has the positions p = (s · V + v) · B + i, i < B, of one endless sequence;
// position p is sample Permute(n, key(seed, p / n), p mod n), so that each epoch shows every sample
// once, and the sequence does not depend on how many processes share the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace muster::worker {

struct Pick {
  int64_t index = 0;  // of the sample in the data set
  int64_t draw = 0;   // what Dataset::Get is told: the position in training, 0 in evaluation

  friend bool operator==(const Pick&, const Pick&) = default;
};

// The samples of the item (step, replica), in order. A pure function.
using Order = std::function<std::vector<Pick>(int64_t step, int32_t replica)>;

// The sample at `position` of the endless shuffled sequence over n samples. PRECONDITION: n ≥ 1,
// position ≥ 0.
int64_t ShuffledIndex(int64_t n, uint64_t seed, int64_t position);

// Training with V = `replicas` and `batch` samples per replica and step. PRECONDITION: size ≥ 1.
Order TrainingOrder(int64_t size, uint64_t seed, int32_t replicas, int64_t batch);

// Evaluation of `size` samples in `shares` shares, a replica each: share v is the samples v,
// v + shares, v + 2 · shares …; step k is its k-th batch, the last one may be shorter, none are
// left after it. PRECONDITION: shares ≥ 1.
Order EvaluationOrder(int64_t size, int32_t shares, int64_t batch);

// What device `share` of `shares` computes of each item of `order`: neighbours, the picks
// [n share / shares, n (share + 1) / shares) of n.
Order ShareOf(Order order, size_t share, size_t shares);
// Samples in the largest share of a batch.
int64_t LargestShare(int64_t batch, size_t shares);

}  // namespace muster::worker
