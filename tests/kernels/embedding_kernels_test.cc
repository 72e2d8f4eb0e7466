// Rows gathered, and gradients added to rows, against plain loops: the same bits, whatever the ids.
#include "kernels/cuda/embedding_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/any_order.h"
#include "tests/kernels/reference.h"

namespace muster::gpu {
namespace {

using muster::testing::RunInAnyOrder;
using muster::testing::Uniform;

struct Case {
  uint64_t seed;
  int64_t n, rows, width;
  std::vector<int32_t> ids;

  explicit Case(uint64_t with_seed) : seed(with_seed) {
    std::mt19937_64 rng(seed);
    n = static_cast<int64_t>(rng() % 200);
    rows = static_cast<int64_t>(1 + rng() % (seed % 3 == 0 ? 3 : 150));  // often the same few
    width = static_cast<int64_t>(1 + rng() % 20);
    for (int64_t i = 0; i < n; ++i) {
      ids.push_back(static_cast<int32_t>(rng() % static_cast<uint64_t>(rows)));
    }
  }
  std::string Name() const {
    return "seed " + std::to_string(seed) + ": " + std::to_string(n) + " ids of " +
           std::to_string(rows) + " rows of " + std::to_string(width);
  }
};

TEST(EmbeddingKernelTest, GathersTheRowsThatTheIdsName) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const Case c(seed);
    SCOPED_TRACE(c.Name());
    const std::vector<float> table = Uniform(c.rows * c.width, seed);
    std::vector<float> y(static_cast<size_t>(c.n * c.width + 1), 7.0f);
    const RunInAnyOrder run(seed);
    if (ByFours(c.width, table.data(), y.data())) {
      run(c.n * c.width / 4, GatherRowsKernel<4>{c.width, c.ids.data(), table.data(), y.data()});
    } else {
      run(c.n * c.width, GatherRowsKernel<1>{c.width, c.ids.data(), table.data(), y.data()});
    }
    for (int64_t i = 0; i < c.n; ++i) {
      for (int64_t j = 0; j < c.width; ++j) {
        ASSERT_EQ(y[i * c.width + j], table[c.ids[i] * c.width + j]) << i << ", " << j;
      }
    }
    EXPECT_EQ(y.back(), 7.0f);
  }
}

TEST(EmbeddingKernelTest, AddsInTheOrderOfPositionsHoweverOftenAnIdOccurs) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Case c(seed);
    SCOPED_TRACE(c.Name());
    const std::vector<float> dy = Uniform(c.n * c.width, seed + 1000);
    std::vector<float> expected = Uniform(c.rows * c.width, seed), table = expected;
    for (int64_t i = 0; i < c.n; ++i) {
      for (int64_t j = 0; j < c.width; ++j) {
        expected[c.ids[i] * c.width + j] += dy[i * c.width + j];
      }
    }
    std::vector<int32_t> positions(c.ids.size()), sorted;
    std::iota(positions.begin(), positions.end(), 0);
    std::ranges::stable_sort(positions, {}, [&](int32_t p) { return c.ids[p]; });
    for (const int32_t p : positions) sorted.push_back(c.ids[p]);
    const auto add = [&]<int kWidth>() {
      RunInAnyOrder{seed}(c.n * c.width / kWidth,
                          ScatterAddRowsKernel<kWidth>{c.n, c.width, sorted.data(),
                                                       positions.data(), dy.data(), table.data()});
    };
    ByFours(c.width, dy.data(), table.data()) ? add.template operator()<4>()
                                              : add.template operator()<1>();
    ASSERT_EQ(table, expected);
  }
}

}  // namespace
}  // namespace muster::gpu
