// The order of samples, and the loader: what a batch holds is a matter of its item alone, whatever
// the threads do.
#include "worker/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <set>

#include "kernels/philox.h"

namespace muster::worker {
namespace {

// Sample i of draw d is (i, d); a thread takes a turn or two longer for some of them.
class Numbers : public Dataset {
 public:
  explicit Numbers(int64_t size, int64_t bad = -1, int yields = 2)
      : size_(size), bad_(bad), yields_(yields) {}
  int64_t size() const override { return size_; }
  int64_t input_size() const override { return 2; }
  absl::Status Get(int64_t index, int64_t draw, std::span<float> input,
                   int32_t* label) const override {
    ++calls;
    if (draw == bad_) {
      return absl::DataLossError("sample is bad");
    }
    for (uint64_t spin = Philox({}, index + draw)[0] % (yields_ + 1); spin > 0; --spin) {
      std::this_thread::yield();
    }
    input[0] = static_cast<float>(index);
    input[1] = static_cast<float>(draw);
    *label = static_cast<int32_t>(index % 7);
    return absl::OkStatus();
  }
  mutable std::atomic<int64_t> calls{0};

 private:
  const int64_t size_, bad_;
  const int yields_;
};

void ExpectItem(const absl::StatusOr<Batch>& batch, const Order& order, int64_t step, int32_t v) {
  ASSERT_TRUE(batch.ok()) << batch.status();
  const std::vector<Pick> want = order(step, v);
  ASSERT_EQ(batch->size, static_cast<int64_t>(want.size()));
  ASSERT_EQ(batch->inputs.size(), want.size() * 2);
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(batch->inputs[2 * i], want[i].index);
    ASSERT_EQ(batch->inputs[2 * i + 1], want[i].draw);
    ASSERT_EQ(batch->labels[i], want[i].index % 7);
  }
}

TEST(ShuffleTest, EachEpochShowsEverySampleOnce) {
  for (const int64_t n : {1, 7, 100}) {
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<int64_t> seen;
      for (int64_t i = 0; i < n; ++i) seen.insert(ShuffledIndex(n, 42, epoch * n + i));
      EXPECT_EQ(static_cast<int64_t>(seen.size()), n);
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), n - 1);
    }
  }
}

TEST(ShuffleTest, EpochsAndSeedsHaveDifferentOrders) {
  const auto epoch = [](uint64_t seed, int64_t number) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < 100; ++i) order.push_back(ShuffledIndex(100, seed, number * 100 + i));
    return order;
  };
  EXPECT_EQ(epoch(1, 0), epoch(1, 0));
  EXPECT_NE(epoch(1, 0), epoch(1, 1));
  EXPECT_NE(epoch(1, 0), epoch(2, 0));
}

TEST(ShuffleTest, ReplicasShareOneSequence) {
  // Five replicas of batch 4 see, step by step, what one replica of batch 20 sees.
  const Order five = TrainingOrder(33, 9, 5, 4), one = TrainingOrder(33, 9, 1, 20);
  for (int64_t step = 0; step < 10; ++step) {
    std::vector<Pick> joined;
    for (int32_t v = 0; v < 5; ++v) {
      const std::vector<Pick> part = five(step, v);
      joined.insert(joined.end(), part.begin(), part.end());
    }
    EXPECT_EQ(joined, one(step, 0));
  }
}

TEST(ShuffleTest, EvaluationGoesThroughItsShareInOrder) {
  const Order order = EvaluationOrder(10, 15, 2);
  EXPECT_EQ(order(0, 0), (std::vector<Pick>{{10, 0}, {11, 0}}));
  EXPECT_EQ(order(2, 0), (std::vector<Pick>{{14, 0}}));
  EXPECT_EQ(order(3, 0), std::vector<Pick>());
}

TEST(LoaderTest, BatchesDoNotDependOnThreadsOrDepth) {
  const auto data = std::make_shared<Numbers>(50);
  const Order order = TrainingOrder(50, 3, 4, 6);
  for (const int threads : {1, 2, 5}) {
    for (const int depth : {1, 4}) {
      Loader loader(data, order, {.max_batch = 6, .threads = threads, .depth = depth});
      loader.SetReplicas({1, 3}, 10);
      for (int64_t step = 10; step < 30; ++step) {
        ExpectItem(loader.Next(step, 1), order, step, 1);
        ExpectItem(loader.Next(step, 3), order, step, 3);
      }
    }
  }
}

TEST(LoaderTest, AnyItemCanBeAskedFor) {
  const auto data = std::make_shared<Numbers>(50);
  const Order order = TrainingOrder(50, 3, 4, 6);
  Loader loader(data, order, {.max_batch = 6, .threads = 3, .depth = 2});
  const uint64_t seed = 20261121;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  for (uint64_t i = 0; i < 200; ++i) {
    const PhiloxBlock random = Philox(DeriveKey(seed, 0), i);
    if (random[0] % 5 == 0) loader.SetReplicas({int32_t(random[1] % 4)}, random[2] % 100);
    const int64_t step = random[2] % 100;
    const int32_t replica = random[3] % 4;
    ExpectItem(loader.Next(step, replica), order, step, replica);
  }
}

TEST(LoaderTest, StartsBeforeItIsAsked) {
  const auto data = std::make_shared<Numbers>(50);
  const Order order = TrainingOrder(50, 3, 1, 6);
  Loader loader(data, order, {.max_batch = 6, .threads = 2, .depth = 3});
  loader.SetReplicas({0}, 0);
  while (data->calls < 18) std::this_thread::yield();
  ExpectItem(loader.Next(0, 0), order, 0, 0);
}

TEST(LoaderTest, MakesNoMoreThanItsDepthAhead) {
  const auto data = std::make_shared<Numbers>(50);
  const Order order = TrainingOrder(50, 3, 1, 6);
  {
    Loader loader(data, order, {.max_batch = 6, .threads = 4, .depth = 2});
    for (int64_t step = 0; step < 5; ++step) ExpectItem(loader.Next(step, 0), order, step, 0);
  }
  EXPECT_LE(data->calls, (5 + 2) * 6);
}

TEST(LoaderTest, EvaluationEndsWithAShortBatchAndThenNothing) {
  const auto data = std::make_shared<Numbers>(13);
  const Order order = EvaluationOrder(0, 13, 5);
  Loader loader(data, order, {.max_batch = 5, .threads = 2, .depth = 2});
  loader.SetReplicas({0}, 0);
  int64_t seen = 0;
  for (int64_t step = 0; step < 5; ++step) {
    const auto batch = loader.Next(step, 0);
    ASSERT_TRUE(batch.ok());
    seen += batch->size;
    EXPECT_EQ(batch->size, step < 2 ? 5 : step == 2 ? 3 : 0);
  }
  EXPECT_EQ(seen, 13);
}

TEST(LoaderTest, AnErrorComesWithItsItemAndStays) {
  const auto data = std::make_shared<Numbers>(50, /*bad=*/15);
  const Order order = TrainingOrder(50, 3, 1, 6);
  Loader loader(data, order, {.max_batch = 6, .threads = 3, .depth = 4});
  ExpectItem(loader.Next(0, 0), order, 0, 0);
  ExpectItem(loader.Next(1, 0), order, 1, 0);
  EXPECT_EQ(loader.Next(2, 0).status().message(), "sample is bad");
  EXPECT_EQ(loader.Next(3, 0).status().message(), "sample is bad");
}

TEST(LoaderTest, StopsInTheMiddleOfABatch) {
  // A batch of this loader would take a million slow samples; the end does not wait for it.
  const auto data = std::make_shared<Numbers>(1 << 20, -1, /*yields=*/50);
  const int64_t batch = 1 << 20;
  {
    Loader loader(data, EvaluationOrder(0, batch, batch),
                  {.max_batch = batch, .threads = 2, .depth = 1});
    loader.SetReplicas({0}, 0);
    while (data->calls == 0) std::this_thread::yield();
  }
  EXPECT_LT(data->calls, batch);
}

}  // namespace
}  // namespace muster::worker
