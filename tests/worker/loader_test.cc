// The order of samples, and the loader: what a batch holds is a matter of its item alone, whatever
// the threads do.
#include "worker/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <set>

#include "kernels/op.h"
#include "kernels/philox.h"
#include "tests/harness/host_gpu.h"

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

std::unique_ptr<Feed> HostFeed(const std::shared_ptr<const Dataset>& data, int64_t max_batch) {
  return *MakeFeed(data, max_batch, nullptr);
}

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
  const Order order = EvaluationOrder(8, 3, 2);
  EXPECT_EQ(order(0, 1), (std::vector<Pick>{{1, 0}, {4, 0}}));
  EXPECT_EQ(order(1, 1), (std::vector<Pick>{{7, 0}}));
  EXPECT_EQ(order(2, 1), std::vector<Pick>());
  EXPECT_EQ(order(0, 2), (std::vector<Pick>{{2, 0}, {5, 0}}));
  EXPECT_EQ(order(1, 2), std::vector<Pick>());
}

TEST(ShuffleTest, TheSharesOfAnEvaluationAreAllSamplesOnce) {
  for (const int32_t shares : {1, 4, 7}) {
    const Order order = EvaluationOrder(23, shares, 3);
    std::multiset<int64_t> seen;
    for (int32_t share = 0; share < shares; ++share) {
      for (int64_t step = 0; !order(step, share).empty(); ++step) {
        for (const Pick& pick : order(step, share)) seen.insert(pick.index);
      }
    }
    EXPECT_EQ(seen.size(), 23u);
    EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), 23u);
  }
}

TEST(LoaderTest, BatchesDoNotDependOnThreadsOrDepth) {
  const auto data = std::make_shared<Numbers>(50);
  const Order order = TrainingOrder(50, 3, 4, 6);
  for (const int threads : {1, 2, 5}) {
    for (const int depth : {1, 4}) {
      Loader loader(HostFeed(data, 6), order, {.threads = threads, .depth = depth});
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
  Loader loader(HostFeed(data, 6), order, {.threads = 3, .depth = 2});
  const uint64_t seed = 20261121;
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
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
  Loader loader(HostFeed(data, 6), order, {.threads = 2, .depth = 3});
  loader.SetReplicas({0}, 0);
  while (data->calls < 18) std::this_thread::yield();
  ExpectItem(loader.Next(0, 0), order, 0, 0);
}

TEST(LoaderTest, MakesNoMoreThanItsDepthAhead) {
  const auto data = std::make_shared<Numbers>(50);
  const Order order = TrainingOrder(50, 3, 1, 6);
  {
    Loader loader(HostFeed(data, 6), order, {.threads = 4, .depth = 2});
    for (int64_t step = 0; step < 5; ++step) ExpectItem(loader.Next(step, 0), order, step, 0);
  }
  EXPECT_LE(data->calls, (5 + 2) * 6);
}

TEST(LoaderTest, EvaluationEndsWithAShortBatchAndThenNothing) {
  const auto data = std::make_shared<Numbers>(13);
  const Order order = EvaluationOrder(13, 1, 5);
  Loader loader(HostFeed(data, 5), order, {.threads = 2, .depth = 2});
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
  Loader loader(HostFeed(data, 6), order, {.threads = 3, .depth = 4});
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
    Loader loader(HostFeed(data, batch), EvaluationOrder(batch, 1, batch),
                  {.threads = 2, .depth = 1});
    loader.SetReplicas({0}, 0);
    while (data->calls == 0) std::this_thread::yield();
  }
  EXPECT_LT(data->calls, batch);
}

// The same numbers, of which the device makes floats.
class NumbersOnDevice final : public Numbers {
 public:
  using Numbers::Numbers;
  class FrontEnd final : public DeviceFrontEnd {
   public:
    FrontEnd(const Numbers& data, Device& device, int64_t max_batch)
        : data_(data), floats_(device, static_cast<size_t>(max_batch) * 2 * sizeof(float)) {}
    int64_t record_bytes() const override { return 16; }
    absl::Status GetRecord(int64_t index, int64_t draw, std::span<std::byte> record,
                           int32_t* label) const override {
      return data_.Get(index, draw, {reinterpret_cast<float*>(record.data()), 2}, label);
    }
    // By way of memory that all batches share.
    void Compute(Stream& stream, int64_t n, const std::byte* records, float* inputs) override {
      const auto* from = reinterpret_cast<const float*>(records);
      for (int64_t i = 0; i < n; ++i) {
        Copy(stream, {from + 4 * i, 2}, Tensor(floats_.data<float>() + 2 * i, {2}));
      }
      Copy(stream, {floats_.data<float>(), static_cast<size_t>(2 * n)}, Tensor(inputs, {n, 2}));
    }

   private:
    const Numbers& data_;
    const Buffer floats_;
  };
  absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> MakeDeviceFrontEnd(
      Device& device, int64_t max_batch) const override {
    return std::make_unique<FrontEnd>(*this, device, max_batch);
  }
};

// On a GPU the model's thread runs ahead of the model: what a batch holds must be there when its
// stream comes to it, and stay until it is through. The two paces are the ends of what a GPU does.
class DeviceLoaderTest : public ::testing::TestWithParam<std::tuple<testing::HostGpuPace, bool>> {};

INSTANTIATE_TEST_SUITE_P(Paces, DeviceLoaderTest,
                         ::testing::Combine(::testing::Values(testing::HostGpuPace::kAtOnce,
                                                              testing::HostGpuPace::kLate),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           const bool late = std::get<0>(info.param) == testing::HostGpuPace::kLate;
                           return std::string(late ? "Late" : "AtOnce") +
                                  (std::get<1>(info.param) ? "WithFrontEnd" : "Plain");
                         });

TEST_P(DeviceLoaderTest, TheModelReadsWhatItsItemHolds) {
  const auto [pace, front_end] = GetParam();
  const std::unique_ptr<Device> gpu = testing::MakeHostGpu({.pace = pace});
  const std::unique_ptr<Stream> model = gpu->MakeStream();
  std::shared_ptr<const Numbers> data = std::make_shared<Numbers>(50);
  if (front_end) data = std::make_shared<NumbersOnDevice>(50);
  const Order order = TrainingOrder(50, 3, 4, 6);
  const uint64_t seed = 20261122;
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  struct Read {
    std::vector<Pick> want;
    std::vector<float> inputs = std::vector<float>(12);
    std::vector<int32_t> labels = std::vector<int32_t>(6);
  };
  std::vector<std::unique_ptr<Read>> reads;
  Buffer activation(*gpu, 12 * sizeof(float));
  {
    Loader loader(*MakeFeed(data, 6, model.get()), order, {.threads = 2, .depth = 2});
    loader.SetReplicas({1, 3}, 0);
    for (uint64_t i = 0; i < 300; ++i) {
      const PhiloxBlock random = Philox(DeriveKey(seed, 0), i);
      // Mostly one after the other, now and then somewhere else.
      const bool jumps = random[0] % 20 == 0;
      const int64_t step = jumps ? random[1] % 100 : static_cast<int64_t>(i / 2);
      const int32_t replica = jumps ? static_cast<int32_t>(random[2] % 4) : i % 2 == 0 ? 1 : 3;
      const auto batch = loader.Next(step, replica);
      ASSERT_TRUE(batch.ok()) << batch.status();
      ASSERT_EQ(batch->size, 6);
      Read& read = *reads.emplace_back(std::make_unique<Read>());
      read.want = order(step, replica);
      for (size_t k = 0; k < 6; ++k) ASSERT_EQ(loader.labels()[k], read.want[k].index % 7);
      Copy(*model, batch->inputs, Tensor(activation.data<float>(), {12}));
      DeviceOps& ops = gpu->ops();
      ops.Copy(*model, read.inputs.data(), activation.data<float>(), 12 * sizeof(float),
               CopyDirection::kDeviceToHost);
      ops.Copy(*model, read.labels.data(), batch->labels.data(), 6 * sizeof(int32_t),
               CopyDirection::kDeviceToHost);
      if (random[3] % 16 == 0) {
        ASSERT_TRUE(model->Synchronize().ok());
      }
    }
  }
  for (const auto& read : reads) {
    for (size_t k = 0; k < 6; ++k) {
      ASSERT_EQ(read->inputs[2 * k], read->want[k].index);
      ASSERT_EQ(read->inputs[2 * k + 1], read->want[k].draw);
      ASSERT_EQ(read->labels[k], read->want[k].index % 7);
    }
  }
}

TEST_P(DeviceLoaderTest, AShortBatchAndNoneAtAll) {
  const auto [pace, front_end] = GetParam();
  const std::unique_ptr<Device> gpu = testing::MakeHostGpu({.pace = pace});
  const std::unique_ptr<Stream> model = gpu->MakeStream();
  std::shared_ptr<const Numbers> data = std::make_shared<Numbers>(13);
  if (front_end) data = std::make_shared<NumbersOnDevice>(13);
  Loader loader(*MakeFeed(data, 5, model.get()), EvaluationOrder(13, 1, 5), {});
  loader.SetReplicas({0}, 0);
  std::vector<float> last(6);
  for (int64_t step = 0; step < 5; ++step) {
    const auto batch = loader.Next(step, 0);
    ASSERT_TRUE(batch.ok());
    ASSERT_EQ(batch->size, step < 2 ? 5 : step == 2 ? 3 : 0);
    if (step == 2) {
      ASSERT_TRUE(CopyToHost(*model, ConstTensor(batch->inputs.data(), {6}), last).ok());
    }
  }
  EXPECT_EQ(last, (std::vector<float>{10, 0, 11, 0, 12, 0}));
}

TEST_P(DeviceLoaderTest, WhatTheDataSetSaysComesWithItsItem) {
  const auto [pace, front_end] = GetParam();
  const std::unique_ptr<Device> gpu = testing::MakeHostGpu({.pace = pace});
  const std::unique_ptr<Stream> model = gpu->MakeStream();
  std::shared_ptr<const Numbers> data = std::make_shared<Numbers>(50, /*bad=*/15);
  if (front_end) data = std::make_shared<NumbersOnDevice>(50, /*bad=*/15);
  Loader loader(*MakeFeed(data, 6, model.get()), TrainingOrder(50, 3, 1, 6), {});
  EXPECT_TRUE(loader.Next(0, 0).ok());
  EXPECT_TRUE(loader.Next(1, 0).ok());
  EXPECT_EQ(loader.Next(2, 0).status().message(), "sample is bad");
}

}  // namespace
}  // namespace muster::worker
