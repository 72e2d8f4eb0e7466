// Arrays of any size and address packed into a bucket, and unpacked, against memcpy.
#include "kernels/cuda/bucket_kernels.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/any_order.h"
#include "tests/kernels/reference.h"

namespace muster::gpu {
namespace {

using muster::testing::RunInAnyOrder;
using muster::testing::Uniform;

constexpr float kGap = 7;  // between arrays, and between their places

// Arrays one behind the other in `memory`, their places in a bucket, with gaps in both.
struct Layout {
  std::vector<BucketArray> table;
  std::vector<float> memory;
  int64_t bucket_size = 0;

  explicit Layout(uint64_t seed) {
    std::mt19937_64 rng(seed);
    const auto gap = [&] {
      return static_cast<int64_t>(seed % 4 == 0 ? 4 * (rng() % 2) : rng() % 4);
    };
    std::vector<int64_t> at;
    int64_t memory_size = gap();
    do {
      const auto size = static_cast<int64_t>(seed % 4 == 0    ? 4 * (rng() % 30)
                                             : rng() % 3 == 0 ? 0
                                                              : rng() % 100);
      at.push_back(memory_size);
      bucket_size += gap();
      table.push_back({nullptr, bucket_size, size, 0});
      memory_size += size + gap();
      bucket_size += size;
    } while (rng() % 20 != 0);
    memory.assign(static_cast<size_t>(memory_size), kGap);
    for (size_t a = 0; a < table.size(); ++a) {
      table[a].array = memory.data() + at[a];
      const std::vector<float> values = Uniform(table[a].size, seed + 1000 * a);
      std::copy(values.begin(), values.end(), table[a].array);
    }
  }
};

TEST(BucketKernelTest, PacksAndUnpacksLikeMemcpy) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Layout layout(seed);
    const std::vector<float> original = layout.memory;
    std::vector<float> bucket(static_cast<size_t>(layout.bucket_size + 1), kGap), expected = bucket;
    for (const BucketArray& row : layout.table) {
      if (row.size == 0) continue;
      std::memcpy(expected.data() + row.offset, row.array,
                  static_cast<size_t>(row.size) * sizeof(float));
    }
    const int64_t indices = PlaceIndices(layout.table);
    const int rows = static_cast<int>(layout.table.size());
    const RunInAnyOrder run(seed);
    run(indices, BucketKernel<true>{rows, layout.table.data(), bucket.data()});
    ASSERT_EQ(bucket, expected);
    ASSERT_EQ(layout.memory, original) << "packing changes no array";

    for (const BucketArray& row : layout.table) std::fill_n(row.array, row.size, -1.0f);
    run(indices, BucketKernel<false>{rows, layout.table.data(), bucket.data()});
    ASSERT_EQ(layout.memory, original);
    ASSERT_EQ(bucket, expected) << "unpacking does not change the bucket";
  }
}

}  // namespace
}  // namespace muster::gpu
