// The table's layout and refusals; the partition's properties over random and well-known models;
// first values.
#include "ps/param.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/optimizer_math.h"
#include "ps/init.h"

namespace muster::ps {
namespace {

ParamTable Table(const std::vector<int64_t>& sizes) {
  std::vector<ParamSpec> specs;
  for (size_t i = 0; i < sizes.size(); ++i) {
    specs.push_back({.name = "p" + std::to_string(i), .shape = {sizes[i]}});
  }
  auto table = ParamTable::Make(std::move(specs));
  EXPECT_TRUE(table.ok()) << table.status();
  return *std::move(table);
}

TEST(ParamTableTest, LaysParametersOutAtCacheLines) {
  const ParamTable table = Table({1, 16, 17, 100});
  EXPECT_EQ(table.offset(0), 0);
  EXPECT_EQ(table.offset(1), 16);
  EXPECT_EQ(table.offset(2), 32);
  EXPECT_EQ(table.offset(3), 64);
  EXPECT_EQ(table.arena_size(), 64 + 112);
  EXPECT_EQ(table.total_size(), 134);
}

TEST(ParamTableTest, RefusesWhatCannotBe) {
  const auto error = [](std::vector<ParamSpec> specs) {
    return std::string(ParamTable::Make(std::move(specs)).status().message());
  };
  EXPECT_EQ(error({{.name = "", .shape = {1}}}), "a parameter has no name");
  EXPECT_EQ(error({{.name = "a", .shape = {1}}, {.name = "a", .shape = {2}}}),
            "two parameters are named 'a'; give one another name");
  EXPECT_EQ(error({{.name = "a", .shape = {3, 0}}}), "parameter 'a': dimension 0 is below 1");
  EXPECT_EQ(error({{.name = "a[0:3]", .shape = {3}}}),
            "parameter 'a[0:3]': '[' and ']' mark slices in checkpoints; use another name");
  EXPECT_EQ(error({{.name = "a", .shape = {int64_t{1} << 40, int64_t{1} << 40}}}),
            "parameter 'a' has more than 2^48 elements");
}

// Every element in exactly one slice, slices in the arena's order, none too large.
void ExpectSound(const ParamTable& table, const Partition& partition, int servers) {
  const int64_t limit =
      std::clamp<int64_t>(table.total_size() * 4 / (8 * servers), 64 << 10, 4 << 20);
  ASSERT_EQ(partition.num_servers, servers);
  ASSERT_EQ(partition.server.size(), partition.slices.size());
  ASSERT_EQ(partition.of_param.size(), table.specs().size());
  std::vector<int64_t> covered(table.specs().size(), 0);  // elements
  std::vector<std::vector<int32_t>> of_param(table.specs().size());
  for (size_t id = 0; id < partition.slices.size(); ++id) {
    const ParamSlice& slice = partition.slices[id];
    ASSERT_EQ(slice.begin % kNormBlock, 0);
    ASSERT_GE(slice.size, 1);
    ASSERT_LE(slice.size * 4, limit);
    int32_t parts = 0;
    int64_t end = 0;
    ForEachPart(table, slice, [&](const ParamSlice& part, int64_t at) {
      ASSERT_EQ(part.params, 1);
      ASSERT_EQ(part.param, slice.param + parts++);
      ASSERT_EQ(part.begin, covered[static_cast<size_t>(part.param)]);
      ASSERT_EQ(part.offset(table), slice.offset(table) + at);
      covered[static_cast<size_t>(part.param)] += part.size;
      of_param[static_cast<size_t>(part.param)].push_back(static_cast<int32_t>(id));
      end = at + part.size;
    });
    ASSERT_EQ(parts, slice.params);
    ASSERT_EQ(end, slice.size);
  }
  for (size_t param = 0; param < table.specs().size(); ++param) {
    ASSERT_EQ(covered[param], table.specs()[param].size());
  }
  ASSERT_EQ(partition.of_param, of_param);
  for (const int server : partition.server) {
    ASSERT_GE(server, 0);
    ASSERT_LT(server, servers);
  }
}

// The fullest server's bytes over the mean.
double Imbalance(const Partition& partition) {
  std::vector<int64_t> load(static_cast<size_t>(partition.num_servers), 0);
  for (size_t i = 0; i < partition.slices.size(); ++i) {
    load[static_cast<size_t>(partition.server[i])] += partition.slices[i].size;
  }
  const double mean = static_cast<double>(std::accumulate(load.begin(), load.end(), int64_t{0})) /
                      static_cast<double>(load.size());
  return static_cast<double>(*std::max_element(load.begin(), load.end())) / mean;
}

TEST(PartitionTest, CoversRandomModelsExactlyOnceAndBalancesThem) {
  const uint32_t seed = 20261121;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int round = 0; round < 300; ++round) {
    std::vector<int64_t> sizes(1 + rng() % 40);
    for (int64_t& size : sizes) {
      size = 1 + static_cast<int64_t>(std::exp(std::uniform_real_distribution(0.0, 14.0)(rng)));
    }
    const ParamTable table = Table(sizes);
    const int servers = 1 + static_cast<int>(rng() % 8);
    const Partition partition = MakePartition(table, servers);
    ExpectSound(table, partition, servers);
    // Largest first to the least loaded exceeds the mean by less than one slice, which is at most
    // 1/8 of a server's share where slices are larger than the 64 KiB floor.
    if (table.total_size() >= 8 * servers * 16 * 1024) {
      EXPECT_LT(Imbalance(partition), 1.125);
    }
  }
}

TEST(PartitionTest, IsAFunctionOfItsArguments) {
  const ParamTable table = Table({100, 5000, 123456, 5000, 77});
  const Partition a = MakePartition(table, 3), b = MakePartition(table, 3);
  EXPECT_EQ(a.server, b.server);
  EXPECT_EQ(a.of_param, b.of_param);
}

TEST(PartitionTest, SmallNeighboursBecomeOneBundle) {
  // In elements: 64 KiB are 16,384.
  const ParamTable table = Table({10, 16'000, 100, 300, 1'000'000, 7, 7, 16'384, 5});
  const Partition partition = MakePartition(table, 1);
  std::vector<std::vector<int32_t>> bundles;  // first parameter, parameters, size
  for (const ParamSlice& slice : partition.slices) {
    if (slice.params > 1) {
      bundles.push_back({slice.param, slice.params, static_cast<int32_t>(slice.size)});
    }
  }
  EXPECT_EQ(bundles, (std::vector<std::vector<int32_t>>{
                         {0, 3, 16 + 16'000 + 100},  // a fourth would be too much
                         {5, 2, 16 + 7},
                     }));
}

TEST(PartitionTest, BundlesAreSmallerWhereServersShareALittleModel) {
  const ParamTable table = Table(std::vector<int64_t>(400, 256));
  EXPECT_EQ(MakePartition(table, 1).slices.size(), 8u);
  EXPECT_EQ(MakePartition(table, 4).slices.size(), 34u);
  EXPECT_EQ(MakePartition(table, 400).slices.size(), 100u) << "not below 4 KiB";
}

TEST(PartitionTest, AParameterWithACodecTravelsAlone) {
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {5}},
                         {.name = "b", .shape = {5}, .codec = *MakeCodec("fp16")},
                         {.name = "c", .shape = {5}},
                         {.name = "d", .shape = {5}, .pull_codec = *MakeCodec("bf16")},
                         {.name = "e", .shape = {5}},
                         {.name = "f", .shape = {5}}});
  const Partition partition = MakePartition(table, 1);
  EXPECT_EQ(partition.slices.size(), 5u) << "only the last two are neighbours without";
  ExpectSound(table, partition, 1);
}

TEST(PartitionTest, TheConvModelSpreadsEvenly) {
  // speech_commands conv: two convolutions with biases, one dense layer.
  const ParamTable table = Table({8 * 20 * 64, 64, 4 * 10 * 64 * 64, 64, 62720 * 12, 12});
  for (int servers = 1; servers <= 5; ++servers) {
    EXPECT_LE(Imbalance(MakePartition(table, servers)), 1.05) << servers << " servers";
  }
}

TEST(PartitionTest, ParametersWithACodecAreCutAtWholeQuantaAndOthersAtWholeNormBlocks) {
  const auto codec = *MakeCodec("int8");
  const ParamTable table = *ParamTable::Make(
      {{.name = "a", .shape = {600'000}, .codec = codec}, {.name = "b", .shape = {600'000}}});
  for (int servers = 1; servers <= 4; ++servers) {
    const Partition partition = MakePartition(table, servers);
    ExpectSound(table, partition, servers);
    for (const ParamSlice& slice : partition.slices) {
      EXPECT_EQ(slice.begin % (slice.param == 0 ? kQuantum : kNormBlock), 0)
          << servers << " servers";
      EXPECT_EQ(PushBytes(table, slice), slice.param == 0 ? codec->EncodedSize(slice.size)
                                                          : static_cast<size_t>(slice.size) * 4);
    }
  }
}

TEST(ParamTableTest, WhatIsPulledHasTheSizeOfItsEncodingOrIsWholeBesideDeltas) {
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {100}, .pull_codec = *MakeCodec("bf16")}});
  const Partition partition = MakePartition(table, 1);
  EXPECT_EQ(PushBytes(table, partition.slices[0]), 400u);
  EXPECT_EQ(PullBytes(table, partition.slices[0]), 200u);
  const ParamTable deltas =
      *ParamTable::Make({{.name = "a", .shape = {100}, .pull_codec = *MakeCodec("topk", 0.1)}});
  EXPECT_EQ(PullBytes(deltas, partition.slices[0]), 400u);
  EXPECT_EQ(PullBytes(deltas, partition.slices[0], /*delta=*/true), 60u);
}

TEST(ParamTableTest, AStatisticHasNoCodec) {
  EXPECT_FALSE(ParamTable::Make({{.name = "mean",
                                  .shape = {3},
                                  .kind = ParamSpec::Kind::kStatistic,
                                  .pull_codec = *MakeCodec("fp16")}})
                   .ok());
  EXPECT_FALSE(ParamTable::Make({{.name = "mean",
                                  .shape = {3},
                                  .kind = ParamSpec::Kind::kStatistic,
                                  .codec = *MakeCodec("fp16")}})
                   .ok());
}

TEST(PartitionTest, BalanceByWeightIsDeterministicAndPrefersTheLowerBin) {
  EXPECT_EQ(BalanceByWeight({5, 5, 5}, 2), (std::vector<int>{0, 1, 0}));
  EXPECT_EQ(BalanceByWeight({1, 9, 2, 3}, 2), (std::vector<int>{1, 0, 1, 1}));
  EXPECT_TRUE(BalanceByWeight({}, 3).empty());
}

TEST(InitTest, FirstValuesDoNotDependOnTheCut) {
  for (const Init::Kind kind : {Init::Kind::kZeros, Init::Kind::kConstant,
                                Init::Kind::kTruncatedNormal, Init::Kind::kUniform}) {
    const ParamSpec spec = {.name = "w", .shape = {1000}, .init = {kind, 0.5f}};
    std::vector<float> whole(1000), parts(1000);
    InitialValues(spec, 7, 0, whole);
    for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 1}, {1, 500}, {500, 1000}}) {
      InitialValues(spec, 7, static_cast<int64_t>(begin),
                    std::span(parts).subspan(begin, end - begin));
    }
    EXPECT_EQ(whole, parts);
  }
}

TEST(InitTest, SeedAndNameChangeTheValues) {
  const auto values = [](uint64_t seed, const std::string& name) {
    std::vector<float> out(64);
    InitialValues({.name = name, .shape = {64}, .init = {Init::Kind::kTruncatedNormal, 1}}, seed, 0,
                  out);
    return out;
  };
  EXPECT_EQ(values(1, "a"), values(1, "a"));
  EXPECT_NE(values(1, "a"), values(2, "a"));
  EXPECT_NE(values(1, "a"), values(1, "b"));
}

TEST(InitTest, DistributionsKeepTheirBoundsAndMoments) {
  constexpr int kN = 100'000;
  std::vector<float> out(kN);
  InitialValues({.name = "n", .shape = {kN}, .init = {Init::Kind::kTruncatedNormal, 0.01f}}, 3, 0,
                out);
  double sum = 0, squares = 0;
  for (const float x : out) {
    ASSERT_LE(std::abs(x), 0.02f);
    sum += x;
    squares += double{x} * x;
  }
  // A normal cut at 2 sigma has deviation 0.87963 sigma; five standard errors of each estimate.
  const double sigma = 0.0087963;
  EXPECT_NEAR(sum / kN, 0, 5 * sigma / std::sqrt(kN));
  EXPECT_NEAR(squares / kN / (sigma * sigma), 1, 5 * std::sqrt(2.0 / kN));

  InitialValues({.name = "u", .shape = {kN}, .init = {Init::Kind::kUniform, 3}}, 3, 0, out);
  sum = 0;
  for (const float x : out) {
    ASSERT_GE(x, -3);
    ASSERT_LT(x, 3);
    sum += x;
  }
  EXPECT_NEAR(sum / kN, 0, 5 * std::sqrt(3.0) / std::sqrt(kN));
}

}  // namespace
}  // namespace muster::ps
