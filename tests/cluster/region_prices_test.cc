// What machine types cost region by region: kept for a day, as it was told, and believed only where
// it reads.
#include "cluster/region_prices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

class RegionPricesTest : public ::testing::Test {
 protected:
  const harness::TemporaryFolder here_;
  const std::string path_ = here_.path() + "/prices";
  const DayFolder folder_{path_};
  const std::set<std::string> types_ = {"a.large", "b.large"};
  const RegionPrices prices_ = {
      .prices = {{"a.large", "east-1", 0.1}, {"a.large", "west-1", 0.12}, {"b.large", "east-1", 2}},
      .asked_ms = 1000};
};

TEST_F(RegionPricesTest, AreKeptForADay) {
  EXPECT_FALSE(FindRegionPrices(folder_, types_, 1000).ok());
  ASSERT_TRUE(KeepRegionPrices(folder_, types_, prices_).ok());
  const auto found = FindRegionPrices(folder_, types_, 999 + kDayMs);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->prices, prices_.prices);
  EXPECT_EQ(found->asked_ms, 1000);
  EXPECT_FALSE(FindRegionPrices(folder_, types_, 1000 + kDayMs).ok()) << "a day old";
  EXPECT_FALSE(FindRegionPrices(folder_, types_, 999).ok()) << "of the future";
  EXPECT_FALSE(FindRegionPrices(folder_, {"a.large", "c.large"}, 1000).ok()) << "not all of them";
  ASSERT_TRUE(KeepRegionPrices(folder_, {"c.large"}, {.asked_ms = 5}).ok());
  EXPECT_THAT(FindRegionPrices(folder_, {"c.large"}, 10)->prices, IsEmpty()) << "there is none";
}

TEST_F(RegionPricesTest, WhatDoesNotReadIsNotThere) {
  ASSERT_TRUE(KeepRegionPrices(folder_, types_, prices_).ok());
  const std::string file = path_ + "/on_demand_a.large.tsv", text = *ReadFile(file);
  for (const char* bad : {"", "asked\n", "asked\t1000\neast-1\n", "asked\t1000\neast-1\tnan\n",
                          "asked\t1000\neast-1\t-1\n", "asked\t1000\n../r\t1\n", "east-1\t1\n"}) {
    ASSERT_TRUE(WriteFileAtomically(file, bad).ok());
    EXPECT_FALSE(FindRegionPrices(folder_, types_, 1000).ok()) << bad;
  }
  const uint64_t seed = std::random_device()();
  std::printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 150; ++i) {
    std::string changed = text;
    changed[random() % changed.size()] = static_cast<char>(random());
    changed.resize(random() % (changed.size() + 1));
    ASSERT_TRUE(WriteFileAtomically(file, changed).ok());
    const auto found = FindRegionPrices(folder_, types_, 1000);
    if (!found.ok()) continue;
    for (const RegionPrice& price : found->prices) EXPECT_GT(price.usd_per_hour, 0) << changed;
  }
}

TEST(DayFolder, WithoutAFolderOrAPlainNameNothingIsKept) {
  const harness::TemporaryFolder here;
  EXPECT_TRUE(DayFolder("").Keep("a", "text", 1).ok());
  EXPECT_FALSE(DayFolder("").Find("a", 1).ok());
  const DayFolder folder(here.path() + "/day");
  for (const std::string& name : {std::string("../x"), std::string("a/b"), std::string(".x"),
                                  std::string(), std::string(201, 'x')}) {
    EXPECT_TRUE(folder.Keep(name, "text", 1).ok());
    EXPECT_FALSE(folder.Find(name, 1).ok()) << name;
  }
  ASSERT_TRUE(folder.Keep("a", "text\nof lines\n", 1).ok());
  EXPECT_EQ(folder.Find("a", 1)->text, "text\nof lines\n");
}

}  // namespace
}  // namespace muster::cluster
