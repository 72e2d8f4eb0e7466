// What spot machines have cost: its summary, and the folder that keeps it for a day and believes
// nothing that it reads.
#include "cluster/spot_prices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <random>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using harness::TemporaryFolder;
using ::testing::SizeIs;

SpotPrice At(const std::string& zone, int64_t since_ms, double usd) {
  return {.type = "t.large",
          .region = zone.substr(0, zone.size() - 1),
          .zone = zone,
          .since_ms = since_ms,
          .usd_per_hour = usd};
}

TEST(SpotPrices, LeastMedianAndMostOfTheDayAndTheZoneThatIsCheapestNow) {
  const std::vector<SpotPrice> prices = {At("east-1a", 10, 0.1), At("east-1a", 30, 0.4),
                                         At("east-1b", 20, 0.3), At("west-1a", 10, 0.2),
                                         At("east-1a", 20, 0.2)};
  const auto summaries = Summarize(prices, "t.large");
  ASSERT_THAT(summaries, SizeIs(2));
  EXPECT_EQ(summaries[0].region, "east-1");
  EXPECT_DOUBLE_EQ(summaries[0].least, 0.1);
  EXPECT_DOUBLE_EQ(summaries[0].median, 0.25);
  EXPECT_DOUBLE_EQ(summaries[0].most, 0.4);
  EXPECT_EQ(summaries[0].cheapest_zone, "east-1b") << "the other was cheaper, and is not any more";
  EXPECT_DOUBLE_EQ(summaries[0].cheapest, 0.3);
  EXPECT_DOUBLE_EQ(summaries[1].median, 0.2);
  EXPECT_THAT(Summarize(prices, "another"), SizeIs(0));
}

TEST(SpotPrices, ThePriceOfAMomentIsTheLastThatWasSetBefore) {
  const std::vector<SpotPrice> prices = {At("a-1a", 10, 0.1), At("a-1a", 30, 0.3),
                                         At("a-1a", 20, 0.2), At("a-1b", 25, 9)};
  const auto at = [&](int64_t now) {
    return PriceAt(prices, "t.large", "a-1a", now)->usd_per_hour;
  };
  EXPECT_DOUBLE_EQ(at(5), 0.1) << "what was before is not known";
  EXPECT_DOUBLE_EQ(at(10), 0.1);
  EXPECT_DOUBLE_EQ(at(29), 0.2);
  EXPECT_DOUBLE_EQ(at(99), 0.3);
  EXPECT_FALSE(PriceAt(prices, "t.large", "a-1c", 99));
}

class SpotPriceFolderTest : public ::testing::Test {
 protected:
  const TemporaryFolder here_;
  const std::string path_ = here_.path() + "/prices";
  const SpotPriceFolder folder_{path_};
};

TEST_F(SpotPriceFolderTest, KeepsPricesForADay) {
  const std::vector<SpotPrice> prices = {At("east-1a", 10, 0.1), At("east-1b", 20, 0.35)};
  EXPECT_FALSE(folder_.Find("t.large", "east-1", 1000).ok());
  ASSERT_TRUE(folder_.Keep("t.large", "east-1", prices, 1000).ok());
  for (const int64_t now : {int64_t{1000}, 999 + kDayMs}) {
    const auto found = folder_.Find("t.large", "east-1", now);
    ASSERT_TRUE(found.ok()) << now;
    EXPECT_EQ(*found, prices);
  }
  EXPECT_FALSE(folder_.Find("t.large", "east-1", 1000 + kDayMs).ok()) << "a day old";
  EXPECT_FALSE(folder_.Find("t.large", "east-1", 999).ok()) << "of the future";
  EXPECT_FALSE(folder_.Find("t.large", "west-1", 1000).ok());
  ASSERT_TRUE(folder_.Keep("t.large", "west-1", {}, 1000).ok());
  EXPECT_THAT(*folder_.Find("t.large", "west-1", 1000), SizeIs(0)) << "known to have none";
}

TEST_F(SpotPriceFolderTest, NamesLeadNowhereElse) {
  for (const char* name : {"../x", "a/b", ".x", ""}) {
    EXPECT_TRUE(folder_.Keep("t.large", name, {}, 1000).ok());
    EXPECT_FALSE(folder_.Find("t.large", name, 1000).ok()) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(SpotPriceFolderTest, WhatDoesNotReadIsNotThere) {
  ASSERT_TRUE(folder_.Keep("t", "r", {At("r1", 10, 0.1), At("r2", 20, 0.25)}, 1000).ok());
  const std::string file = path_ + "/spot_r_t.tsv", text = *ReadFile(file);
  for (const char* bad : {"", "asked\n", "asked\t1000\nr1\t0.1\n", "asked\t1000\nr1\tnan\t1\n",
                          "asked\t1000\nr1\t-1\t1\n", "asked\t1000\n../r\t1\t1\n",
                          "asked\tnever\nr1\t1\t1\n", "r1\t1\t1\n"}) {
    ASSERT_TRUE(WriteFileAtomically(file, bad).ok());
    EXPECT_FALSE(folder_.Find("t", "r", 1000).ok()) << bad;
  }
  const uint64_t seed = std::random_device()();
  std::printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    std::string changed = text;
    changed[random() % changed.size()] = static_cast<char>(random());
    changed.resize(random() % (changed.size() + 1));
    ASSERT_TRUE(WriteFileAtomically(file, changed).ok());
    const auto found = folder_.Find("t", "r", 1000);
    if (!found.ok()) continue;
    for (const SpotPrice& price : *found) EXPECT_GT(price.usd_per_hour, 0) << changed;
  }
}

}  // namespace
}  // namespace muster::cluster
