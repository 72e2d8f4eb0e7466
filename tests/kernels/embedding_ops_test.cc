// Rows gathered by ids, and gradients added to the rows that ids name, against plain loops: the
// same bits on every device, whatever the ids, and nothing is written elsewhere.
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/mirror.h"
#include "kernels/op.h"
#include "tests/harness/device_test.h"
#include "tests/kernels/reference.h"

namespace muster {
namespace {

constexpr float kBeyond = 77;    // what stands around the arrays
constexpr int64_t kAround = 16;  // so much of it

// Ids, and arrays with kBeyond around them, of which some do not begin where a GPU reads by fours.
struct Case {
  explicit Case(uint64_t with_seed) : seed(with_seed), random(seed) {
    const bool large = seed % 8 == 0;  // enough for several threads
    n = seed == 1 ? 0 : large ? 2000 + Draw(2000) : Draw(200);
    rows = seed % 3 == 0 ? 1 + Draw(3) : 1 + Draw(large ? 5000 : 150);
    width = large ? 33 + Draw(40) : 1 + Draw(20);
    shift = seed % 5 == 0 ? 1 : 0;
    const bool mostly_one = seed % 4 == 0;
    const auto one = static_cast<int32_t>(Draw(rows));
    for (int64_t p = 0; p < n; ++p) {
      ids.push_back(mostly_one && Draw(10) > 0 ? one : static_cast<int32_t>(Draw(rows)));
    }
    table = Framed(rows * width, seed);
    x = Framed(n * width, seed + 1000);
  }
  int64_t Draw(int64_t end) { return static_cast<int64_t>(random() % static_cast<uint64_t>(end)); }
  std::vector<float> Framed(int64_t size, uint64_t with_seed) const {
    std::vector<float> framed(static_cast<size_t>(first()), kBeyond);
    const std::vector<float> values = testing::Uniform(size, with_seed);
    framed.insert(framed.end(), values.begin(), values.end());
    framed.insert(framed.end(), kAround, kBeyond);
    return framed;
  }
  int64_t first() const { return kAround + shift; }
  std::string Name() const {
    return "seed " + std::to_string(seed) + ": " + std::to_string(n) + " ids of " +
           std::to_string(rows) + " rows of " + std::to_string(width);
  }
  // What the loops make of them.
  std::vector<float> Gathered() const {
    std::vector<float> y = x;
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t j = 0; j < width; ++j) y[At(p, j)] = table[At(ids[p], j)];
    }
    return y;
  }
  std::vector<float> Added(bool backwards = false) const {
    std::vector<float> sum = table;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t p = backwards ? n - 1 - i : i;
      for (int64_t j = 0; j < width; ++j) sum[At(ids[p], j)] += x[At(p, j)];
    }
    return sum;
  }
  size_t At(int64_t row, int64_t column) const {
    return static_cast<size_t>(first() + row * width + column);
  }

  const uint64_t seed;
  std::mt19937_64 random;
  int64_t n, rows, width, shift;
  std::vector<int32_t> ids;
  std::vector<float> table, x;
};

// A case's arrays on a device.
struct OnDevice {
  OnDevice(Case& c, Stream& stream)
      : mirror(stream),
        ids(mirror.In(c.ids, {c.n})),
        table(Inner(c.table, c, c.rows)),
        x(Inner(c.x, c, c.n)) {}
  Tensor Inner(std::vector<float>& framed, const Case& c, int64_t rows) {
    const Tensor all = mirror.Out(framed, {static_cast<int64_t>(framed.size())});
    return {all.data<float>() + c.first(), {rows, c.width}};
  }

  Mirror mirror;
  ConstTensor ids;
  Tensor table, x;
};

using EmbeddingOpsTest = testing::DeviceTest;

std::vector<std::string> Devices() {
  std::vector<std::string> names = testing::DeviceNames();
  names.emplace_back("late_host_gpu");
  return names;
}

INSTANTIATE_TEST_SUITE_P(Devices, EmbeddingOpsTest, ::testing::ValuesIn(Devices()),
                         [](const auto& info) { return info.param; });

TEST_P(EmbeddingOpsTest, GatherTheRowsThatTheIdsName) {
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    Case c(seed);
    SCOPED_TRACE(c.Name());
    const auto table = c.table, want = c.Gathered();
    OnDevice on(c, *stream_);
    GatherRows(*stream_, on.table, on.ids, on.x);
    const absl::Status finished = on.mirror.Finish();
    ASSERT_TRUE(finished.ok()) << finished;
    ASSERT_TRUE(testing::Bits(c.x) == testing::Bits(want));
    ASSERT_TRUE(c.table == table);
  }
}

TEST_P(EmbeddingOpsTest, AddInTheOrderOfPositionsHoweverOftenAnIdOccurs) {
  int of_order = 0;  // cases in which another order gives other bits
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    Case c(seed);
    SCOPED_TRACE(c.Name());
    const auto x = c.x, want = c.Added();
    of_order += c.Added(/*backwards=*/true) != want ? 1 : 0;
    OnDevice on(c, *stream_);
    ScatterAddRows(*stream_, on.ids, on.x, on.table);
    const absl::Status finished = on.mirror.Finish();
    ASSERT_TRUE(finished.ok()) << finished;
    ASSERT_TRUE(testing::Bits(c.table) == testing::Bits(want));
    ASSERT_TRUE(c.x == x);
  }
  EXPECT_GE(of_order, 60);
}

// The sort's scratch memory is there when a stream has done the op before: none grows in a graph.
TEST_P(EmbeddingOpsTest, CanBeCapturedOnceTheyWereDone) {
  if (!stream_->captures()) GTEST_SKIP() << "no graphs here";
  Case c(8);
  std::vector<float> gathered = c.x;
  const auto again = [&] {
    c.table = c.Added();
    gathered = c.Gathered();
  };
  Case on_device = c;
  OnDevice on(on_device, *stream_);
  std::vector<float> got = gathered;
  const Tensor y = on.Inner(got, c, c.n);
  const auto run = [&] {
    ScatterAddRows(*stream_, on.ids, on.x, on.table);
    GatherRows(*stream_, on.table, on.ids, y);
  };
  run();
  again();
  ASSERT_TRUE(stream_->Synchronize().ok());
  ASSERT_TRUE(stream_->BeginCapture().ok());
  run();
  const auto graph = stream_->EndCapture();
  ASSERT_TRUE(graph.ok()) << graph.status();
  for (int launch = 0; launch < 2; ++launch) {
    (*graph)->Launch(*stream_);
    again();
  }
  ASSERT_TRUE(on.mirror.Finish().ok());
  EXPECT_TRUE(testing::Bits(on_device.table) == testing::Bits(c.table));
  EXPECT_TRUE(testing::Bits(got) == testing::Bits(gathered));
}

TEST(CheckIdsTest, NamesTheFirstThatIsNoRow) {
  const std::vector<int32_t> ids = {0, 4, 2};
  EXPECT_TRUE(CheckIds(ids, 5).ok());
  EXPECT_TRUE(CheckIds({}, 0).ok());
  for (const int32_t bad :
       {5, -1, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
    const std::vector<int32_t> with = {0, 4, bad, bad};
    const absl::Status status = CheckIds(with, 5);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(status.message(),
              "id " + std::to_string(bad) + " at position 2 is no row of a table of 5");
  }
}

TEST(CheckIdsDeathTest, OnTheCpuAnIdThatIsNoRowEndsTheProgram) {
  const auto cpu = MakeCpuDevice(1);
  const auto stream = cpu->MakeStream();
  std::vector<float> table(6), x(4);
  const std::vector<int32_t> ids = {1, 3};
  const Tensor rows(table.data(), {3, 2}), some(x.data(), {2, 2});
  const ConstTensor by(ids.data(), {2});
  EXPECT_DEATH(GatherRows(*stream, rows, by, some), "id 3 at position 1 is no row");
  EXPECT_DEATH(ScatterAddRows(*stream, by, some, rows), "id 3 at position 1 is no row");
}

}  // namespace
}  // namespace muster
