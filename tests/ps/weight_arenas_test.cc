// Reading parameters where the servers wrote them: what is mapped and what is copied, and that
// nothing changes under a reader (invariant 1 of ps/slice.h).
#include "ps/weight_arenas.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "ps/client.h"
#include "rpc/shared_memory.h"
#include "tests/ps/servers.h"

namespace muster::ps {
namespace {

constexpr size_t kPage = 4096;

// One parameter of 300,000 elements behind a small one, in slices of which none begins on a page.
class WeightArenasTest : public testing::Test {
 protected:
  static ParamTable MakeTable() {
    return *ParamTable::Make(
        {{.name = "first", .shape = {20'000}}, {.name = "w", .shape = {300'000}}});
  }
  // Shared memory with the bytes of slice `id` at `skip` bytes after where the arena has them in a
  // page, all elements `value`.
  rpc::Payload Shared(int32_t id, float value, size_t skip = 0) {
    const ParamSlice& slice = partition_.slices[static_cast<size_t>(id)];
    const size_t begin = (static_cast<size_t>(slice.offset(table_)) * sizeof(float) + skip) % kPage;
    const size_t size = static_cast<size_t>(slice.size) * sizeof(float);
    memory_ = *rpc::SharedMemory::Create(begin + size + kPage);
    values_ = {reinterpret_cast<float*>(memory_->bytes().data() + begin),
               static_cast<size_t>(slice.size)};
    std::ranges::fill(values_, value);
    rpc::Payload payload;
    payload.Append({std::as_bytes(values_), memory_, /*shared=*/true});
    return payload;
  }
  // All elements of the slice in the arena of `clock`.
  std::vector<float> Values(int32_t id, int64_t clock) const {
    const ParamSlice& slice = partition_.slices[static_cast<size_t>(id)];
    const auto all = arenas_->At(clock).subspan(static_cast<size_t>(slice.offset(table_)),
                                                static_cast<size_t>(slice.size));
    return {all.begin(), all.end()};
  }
  std::vector<float> All(int32_t id, float value) const {
    return std::vector<float>(static_cast<size_t>(partition_.slices[static_cast<size_t>(id)].size),
                              value);
  }

  const ParamTable table_ = MakeTable();
  const Partition partition_ = MakePartition(table_, 1);
  const std::unique_ptr<WeightArenas> arenas_ = *WeightArenas::Create(table_, partition_);
  std::shared_ptr<rpc::SharedMemory> memory_;
  std::span<float> values_;  // of the last Shared
};

TEST_F(WeightArenasTest, WholePagesAreReadWhereTheyLieAndTheRestIsCopied) {
  const int32_t id = static_cast<int32_t>(partition_.slices.size()) / 2;
  const ParamSlice& slice = partition_.slices[static_cast<size_t>(id)];
  ASSERT_NE(static_cast<size_t>(slice.offset(table_)) * sizeof(float) % kPage, 0u);
  ASSERT_TRUE(arenas_->Take(id, 4, Shared(id, 7), /*in_place=*/true).ok());
  EXPECT_EQ(Values(id, 4), All(id, 7));
  const int64_t in_place = arenas_->bytes_in_place(4);
  EXPECT_GT(in_place, slice.size * 4 - 2 * static_cast<int64_t>(kPage));
  EXPECT_LT(in_place, slice.size * 4);
  EXPECT_EQ(arenas_->bytes_in_place(5), 0) << "the other parity";
  std::ranges::fill(values_, 8.0f);
  const std::vector<float> now = Values(id, 4);
  EXPECT_EQ(std::ranges::count(now, 8.0f), in_place / 4);
  EXPECT_EQ(now.front(), 7);
  EXPECT_EQ(now.back(), 7);
}

TEST_F(WeightArenasTest, NeighboursKeepTheirValues) {
  const auto slices = static_cast<int32_t>(partition_.slices.size());
  std::vector<int32_t> order(static_cast<size_t>(slices));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(3));
  for (int64_t clock = 0; clock < 4; ++clock) {
    for (const int32_t id : order) {
      const auto value = static_cast<float>(100 * clock + id);
      // Every third one comes over a wire.
      ASSERT_TRUE(arenas_->Take(id, clock, Shared(id, value), (id + clock) % 3 != 0).ok());
    }
    for (const int32_t id : order) {
      EXPECT_EQ(Values(id, clock), All(id, static_cast<float>(100 * clock + id))) << id;
    }
    EXPECT_GT(arenas_->bytes_in_place(clock), 0);
  }
}

TEST_F(WeightArenasTest, WhatCannotBeMappedIsCopied) {
  const auto take = [&](const rpc::Payload& payload, bool in_place, float value) {
    ASSERT_TRUE(arenas_->Take(1, 0, payload, in_place).ok());
    EXPECT_EQ(Values(1, 0), All(1, value));
    EXPECT_EQ(arenas_->bytes_in_place(0), 0);
  };
  take(Shared(1, 1), /*in_place=*/false, 1);
  take(Shared(1, 2, /*skip=*/64), /*in_place=*/true, 2);
  rpc::Payload split;
  const rpc::Payload whole = Shared(1, 3);
  const rpc::Payload::Slice& all = whole.slices().front();
  split.Append({all.bytes.first(kPage), all.owner, true});
  split.Append({all.bytes.subspan(kPage), all.owner, true});
  take(split, /*in_place=*/true, 3);
  // Marked as shared, which it is not: the system does not map it twice.
  const std::vector<float> own(All(1, 4).size() + 2 * kPage, 4.0f);
  const ParamSlice& slice = partition_.slices[1];
  const size_t wanted = static_cast<size_t>(slice.offset(table_)) * sizeof(float) % kPage;
  const size_t is = reinterpret_cast<uintptr_t>(own.data()) % kPage;
  const auto bytes =
      std::as_bytes(std::span(own))
          .subspan((wanted + kPage - is) % kPage, static_cast<size_t>(slice.size) * sizeof(float));
  rpc::Payload private_memory;
  private_memory.Append({bytes, nullptr, true});
  take(private_memory, /*in_place=*/true, 4);
}

TEST_F(WeightArenasTest, AnotherMemoryIsSeenEvenAtTheSameAddress) {
  ASSERT_TRUE(arenas_->Take(1, 0, Shared(1, 1), /*in_place=*/true).ok());
  memory_ = nullptr;  // the arenas keep it
  ASSERT_TRUE(arenas_->Take(1, 0, Shared(1, 2), /*in_place=*/true).ok());
  EXPECT_EQ(Values(1, 0), All(1, 2));
  ASSERT_TRUE(arenas_->Take(1, 0, Shared(1, 3), /*in_place=*/false).ok());
  EXPECT_EQ(Values(1, 0), All(1, 3));
  EXPECT_EQ(arenas_->bytes_in_place(0), 0);
}

// A worker of one replica that looks at its weights all through its step.
struct Reader {
  absl::Status status;
  int64_t bytes_in_place = 0;
  std::vector<float> last;

  absl::Status Run(Servers& servers, const ParamTable& table, int32_t replica, int64_t steps,
                   uint32_t seed) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, ConnectWorker(servers, table, replica));
    ASSIGN_OR_RETURN(const auto weights, client->AllocateWeights());
    const auto gradient = client->AllocateGradients();
    std::mt19937 rng(seed);
    client->Pull(replica, 0, -1);
    RETURN_IF_ERROR(client->Wait(0));
    for (int64_t step = 0; step < steps; ++step) {
      const std::span<const float> now = weights->At(step);
      const std::vector<float> before(now.begin(), now.end());
      if (rng() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng() % 2000));
      for (ParamId p = 0; p < static_cast<ParamId>(table.specs().size()); ++p) {
        const auto begin = static_cast<size_t>(table.offset(p));
        const auto size = static_cast<size_t>(table.specs()[static_cast<size_t>(p)].size());
        EXPECT_TRUE(
            std::ranges::equal(now.subspan(begin, size), std::span(before).subspan(begin, size)))
            << "parameter " << p << " changed in step " << step;
        for (size_t i = 0; i < size; ++i) {
          gradient[begin + i] = now[begin + i] * 0.1f +
                                static_cast<float>((replica + 1) * (step % 5)) +
                                static_cast<float>(i % 11);
        }
        client->Push(replica, step, p, {gradient.get() + begin, size}, p, true);
      }
      RETURN_IF_ERROR(client->Wait(step + 1));
    }
    bytes_in_place = weights->bytes_in_place(steps);
    const std::span<const float> end = weights->At(steps);
    last.assign(end.begin(), end.end());
    return absl::OkStatus();
  }
};

std::vector<float> Train(const JobOptions& options, uint32_t seed, bool expect_in_place) {
  const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
  const ParamTable table = *ParamTable::Make({{.name = "small", .shape = {500}, .init = normal},
                                              {.name = "a", .shape = {40'000}, .init = normal},
                                              {.name = "b", .shape = {300'001}, .init = normal}});
  Servers servers(table, options);
  servers.Initialize();
  std::vector<Reader> readers(static_cast<size_t>(options.replicas));
  std::vector<std::thread> threads;
  for (int v = 0; v < options.replicas; ++v) {
    threads.emplace_back([&, v] {
      readers[static_cast<size_t>(v)].status = readers[static_cast<size_t>(v)].Run(
          servers, table, v, /*steps=*/30, seed + static_cast<uint32_t>(v));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Reader& reader : readers) {
    EXPECT_TRUE(reader.status.ok()) << reader.status;
    EXPECT_EQ(reader.bytes_in_place > 0, expect_in_place);
    if (options.mode == "BSP") {
      EXPECT_EQ(reader.last, readers[0].last);
    }
  }
  return readers[0].last;
}

TEST(ReadingInPlaceTest, NothingChangesUnderAReaderAndTheBitsAreTheSame) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  JobOptions options = {.replicas = 3, .servers = 2, .shards = 2, .learning_rate = 0.01f};
  const std::vector<float> copied = Train(options, seed, /*expect_in_place=*/false);
  options.shared = true;
  EXPECT_EQ(Train(options, seed, /*expect_in_place=*/true), copied);
}

TEST(ReadingInPlaceTest, WithoutBspEveryAnswerIsACopy) {
  const JobOptions options = {
      .mode = "ASYNC", .replicas = 2, .learning_rate = 0.01f, .shared = true};
  Train(options, /*seed=*/1, /*expect_in_place=*/false);
}

}  // namespace
}  // namespace muster::ps
