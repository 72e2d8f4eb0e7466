#include "master/gather.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace muster::master {
namespace {

TEST(LossGather, MeanOverReplicasOnceAllAreIn) {
  LossGather gather(3);
  EXPECT_FALSE(gather.Add(10, 2, 3.0).has_value());
  EXPECT_FALSE(gather.Add(20, 0, 9.0).has_value());
  EXPECT_FALSE(gather.Add(10, 0, 1.0).has_value());
  EXPECT_DOUBLE_EQ(*gather.Add(10, 1, 2.0), 2.0);
}

TEST(LossGather, ARepeatedReportCountsOnce) {
  LossGather gather(2);
  EXPECT_FALSE(gather.Add(1, 0, 5.0).has_value());
  EXPECT_FALSE(gather.Add(1, 0, 7.0).has_value());
  EXPECT_DOUBLE_EQ(*gather.Add(1, 1, 1.0), 4.0);
}

// With backup workers two of three make the mean, and the third comes after it or never.
TEST(LossGather, AReportThatComesAfterTheMeanMakesNoOther) {
  LossGather gather(1);
  EXPECT_DOUBLE_EQ(*gather.Add(5, 1, 2.0), 2.0);
  EXPECT_FALSE(gather.Add(5, 0, 9.0).has_value());
  EXPECT_FALSE(gather.Add(4, 0, 9.0).has_value());
  EXPECT_DOUBLE_EQ(*gather.Add(6, 0, 3.0), 3.0);
}

Evaluated Share(int replica, int shares, std::vector<int64_t> confusion) {
  Evaluated share;
  share.set_replica(replica);
  share.set_shares(shares);
  share.set_step(40);
  share.set_split("validation");
  for (int64_t count : confusion) share.add_confusion(count);
  return share;
}

TEST(EvaluationGather, SumsTheCountsOfAllShares) {
  EvaluationGather gather;
  EXPECT_FALSE(gather.Add(Share(1, 2, {3, 1, 0, 4})).has_value());
  EXPECT_TRUE(gather.pending());
  const auto whole = gather.Add(Share(0, 2, {1, 0, 1, 0}));
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->confusion, (std::vector<int64_t>{4, 1, 1, 4}));
  EXPECT_DOUBLE_EQ(whole->accuracy, 0.8);
  EXPECT_FALSE(gather.pending());
}

// Whoever goes on with a replica evaluates its share again.
TEST(EvaluationGather, ARepeatedShareChangesNothingAndMakesNoOtherEvaluation) {
  EvaluationGather gather;
  EXPECT_FALSE(gather.Add(Share(1, 2, {3, 1, 0, 4})).has_value());
  EXPECT_FALSE(gather.Add(Share(1, 2, {3, 1, 0, 4})).has_value());
  EXPECT_EQ(gather.Add(Share(0, 2, {1, 0, 1, 0}))->confusion, (std::vector<int64_t>{4, 1, 1, 4}));
  EXPECT_FALSE(gather.Add(Share(1, 2, {3, 1, 0, 4})).has_value());
  EXPECT_FALSE(gather.Add(Share(0, 2, {1, 0, 1, 0})).has_value());
  EXPECT_FALSE(gather.pending());
}

TEST(EvaluationGather, AWholeEvaluationEndsTheWaitForSharesOfThoseBefore) {
  EvaluationGather gather;
  Evaluated early = Share(1, 2, {1, 0, 0, 1}), other = Share(1, 2, {1, 0, 0, 1});
  early.set_step(20);
  other.set_split("testing");
  EXPECT_FALSE(gather.Add(early).has_value());
  EXPECT_FALSE(gather.Add(other).has_value());
  EXPECT_FALSE(gather.Add(Share(1, 2, {1, 0, 0, 1})).has_value());
  EXPECT_TRUE(gather.Add(Share(0, 2, {1, 0, 0, 1})).has_value());
  EXPECT_TRUE(gather.pending()) << "the other split";
  other.set_replica(0);
  EXPECT_TRUE(gather.Add(other).has_value());
  EXPECT_FALSE(gather.pending());
}

TEST(EvaluationGather, IgnoresAShareOfAnotherShape) {
  EvaluationGather gather;
  EXPECT_FALSE(gather.Add(Share(0, 2, {1, 0, 0, 1})).has_value());
  EXPECT_FALSE(gather.Add(Share(1, 2, {1})).has_value());
  EXPECT_FALSE(gather.Add(Share(1, 1, {1, 0, 0, 1})).has_value());
}

TEST(CutGather, WholeWithTheLastPartAndNamesTheFirstFailure) {
  CutGather gather(2, 0);
  CutDone part;
  part.set_clock(7);
  part.set_file("ps-1.safetensors");
  part.set_error("no space");
  EXPECT_FALSE(gather.Add(1, part).has_value());
  part.set_file("ps-0.safetensors");
  part.clear_error();
  const auto whole = gather.Add(0, part);
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->clock, 7);
  EXPECT_EQ(whole->files, (std::vector<std::string>{"ps-0.safetensors", "ps-1.safetensors"}));
  EXPECT_EQ(whole->error, "no space");
}

TEST(CutGather, ResidualsAreParts) {
  CutGather gather(1, 2);
  CutDone part;
  part.set_clock(7);
  for (const int replica : {1, 2, -1}) {  // the last two are nobody's
    part.set_replica(replica);
    part.set_file(fmt::format("replica-{}", replica));
    EXPECT_FALSE(gather.Add(0, part).has_value());
  }
  part.clear_replica();
  part.set_file("ps-0");
  EXPECT_FALSE(gather.Add(0, part).has_value());
  part.set_replica(0);
  part.set_file("replica-0");
  const auto whole = gather.Add(1, part);
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->files, (std::vector<std::string>{"ps-0"}));
  EXPECT_EQ(whole->residuals, (std::vector<std::string>{"replica-0", "replica-1"}));
}

TEST(Confusion, TextHasARowPerTrueClass) {
  EXPECT_EQ(FormatConfusion({5, 1, 0, 6}, {"yes", "no"}),
            "true\\as    yes     no\n   yes      5      1\n    no      0      6");
  EXPECT_EQ(FormatConfusion({1, 2, 3}, {"yes", "no"}), "");
}

TEST(Confusion, AccuracyIsTheDiagonalsShare) {
  EXPECT_DOUBLE_EQ(Accuracy({5, 1, 0, 6}), 11.0 / 12);
  EXPECT_DOUBLE_EQ(Accuracy({}), 0);
}

}  // namespace
}  // namespace muster::master
