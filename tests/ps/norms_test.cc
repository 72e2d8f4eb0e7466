// Updates in two phases: what is summed and added up, and when a slice goes on.
#include "ps/norms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "kernels/optimizer_math.h"
#include "tests/harness/temporary_folder.h"
#include "tests/ps/slice_fixture.h"

namespace muster::ps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(SumOfSquaresTest, IsTheSumInFloat64) {
  std::mt19937 rng(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(16'384);
  for (float& v : x) v = uniform(rng);
  for (const int64_t n : {0, 1, 15, 16, 17, 1000, 16'384}) {
    double expected = 0;
    for (int64_t i = 0; i < n; ++i) {
      expected += static_cast<double>(x[static_cast<size_t>(i)]) * x[static_cast<size_t>(i)];
    }
    // Two sums of n non-negative terms, each term rounded with an error of at most 2^-53 of it.
    EXPECT_NEAR(SumOfSquares(x.data(), n), expected, expected * static_cast<double>(n) * 0x1p-52);
  }
  x[77] = std::numeric_limits<float>::max();
  EXPECT_TRUE(std::isfinite(SumOfSquares(x.data(), 16'384))) << "no float's square overflows";
  x[78] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(std::isfinite(SumOfSquares(x.data(), 16'384)));
}

TEST(SumOfSquaresTest, AddsInTheDocumentedOrder) {
  std::mt19937 rng(4);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(1003);
  for (float& v : x) v = uniform(rng);
  double lanes[16] = {};
  for (size_t i = 0; i < x.size(); ++i) lanes[i % 16] += static_cast<double>(x[i]) * x[i];
  for (int half = 8; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  EXPECT_EQ(SumOfSquares(x.data(), 1003), lanes[0]);
}

TEST(ClipByNormTest, ScalesTheWeightsOfALongGradientTogether) {
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {2}},
                         {.name = "mean", .shape = {1}, .kind = ParamSpec::Kind::kStatistic},
                         {.name = "b", .shape = {1}}});
  std::vector<float> gradient(static_cast<size_t>(table.arena_size()), 0.0f);
  gradient[0] = 6;
  gradient[16] = 100;
  gradient[32] = 8;
  std::vector<float> expected = gradient;
  ClipByNorm(table, 10, gradient);
  EXPECT_EQ(gradient, expected);
  ClipByNorm(table, 5, gradient);
  expected[0] = 3;
  expected[32] = 4;
  EXPECT_EQ(gradient, expected);
}

// The totals of a model's NORMS, as random numbers that belong to blocks of parameters.
TEST(NormTotalsTest, DoNotDependOnTheCutNorOnTheOrderOfArrival) {
  const uint32_t seed = 5;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  const ParamTable table = *ParamTable::Make({
      {.name = "big", .shape = {700'000}},
      {.name = "a", .shape = {30}},
      {.name = "mean", .shape = {30}, .kind = ParamSpec::Kind::kStatistic},
      {.name = "b", .shape = {900}},
      {.name = "statistic", .shape = {70'000}, .kind = ParamSpec::Kind::kStatistic},
      {.name = "c", .shape = {40'000}},
  });
  const auto value = [](ParamId param, int64_t element, int i) {
    std::mt19937 rng(static_cast<uint32_t>(param * 1'000'003 + element * 7 + i));
    return std::uniform_real_distribution<double>(0, 1)(rng);
  };
  std::mt19937 rng(seed);
  for (const NormRound round : {NormRound::kGradient, NormRound::kTrust}) {
    std::vector<std::vector<double>> expected;  // by parameter
    for (const int servers : {1, 2, 7, 40}) {
      const Partition partition = MakePartition(table, servers);
      std::vector<int32_t> order;
      for (size_t id = 0; id < partition.slices.size(); ++id) {
        if (NormValues(table, partition.slices[id], round) > 0) {
          order.push_back(static_cast<int32_t>(id));
        }
      }
      std::vector<int32_t> all = order;
      std::shuffle(order.begin(), order.end(), rng);
      NormTotals totals(table, partition);
      std::vector<int32_t> ready;
      for (const int32_t id : order) {
        ASSERT_THAT(ready, IsEmpty()) << "totals before all are there";
        const ParamSlice& slice = partition.slices[static_cast<size_t>(id)];
        std::vector<double> norms;
        ForEachNormBlock(table, slice, [&](ParamId param, int64_t at, int64_t) {
          const int64_t element = slice.offset(table) + at - table.offset(param);
          for (int i = 0; i < NormWidth(round); ++i) norms.push_back(value(param, element, i));
        });
        ASSERT_EQ(norms.size(), NormValues(table, slice, round));
        ready = totals.Add(id, 3, round, DoublesPayload(norms));
        EXPECT_THAT(totals.Add(id, 2, round, DoublesPayload(norms)), IsEmpty()) << "an old step";
      }
      EXPECT_EQ(ready, all);
      EXPECT_THAT(totals.Add(order[0], 3, round,
                             DoublesPayload(std::vector<double>(
                                 NormValues(table, partition.slices[0], round), 9.0))),
                  ElementsAre(order[0]))
          << "one that asks again is answered again";
      std::vector<std::vector<double>> got(table.specs().size());
      for (const int32_t id : all) {
        const ParamSlice& slice = partition.slices[static_cast<size_t>(id)];
        const std::vector<double> of = totals.Of(id, round);
        ASSERT_EQ(of.size(), TotalValues(table, slice, round));
        size_t next = 0;
        ForEachPart(table, slice, [&](const ParamSlice& part, int64_t) {
          const auto param = static_cast<size_t>(part.param);
          if (table.specs()[param].kind == ParamSpec::Kind::kStatistic) return;
          if (round == NormRound::kGradient) {
            got[param] = of;
          } else {
            got[param] = {of[next], of[next + 1]};
            next += 2;
          }
        });
      }
      if (expected.empty()) expected = got;
      EXPECT_EQ(got, expected) << servers << " servers";
    }
  }
}

class ClippedSlice : public SliceTest {
 protected:
  // Weights [1, 1], rate 1, the norm at most 5; the slice alone is not the whole model.
  void MakeClipped(int replicas) {
    options_.clip_norm = 5;
    Make("BSP", replicas);
  }
};

TEST_F(ClippedSlice, AppliesWhenTheTotalIsThere) {
  MakeClipped(1);
  Push(0, 0, {6, 8});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "norms 0 of 0: 100"));
  Totals(0, 0, NormRound::kGradient, {100});  // a norm of 10
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -2 -3"));
  Push(0, 1, {6, 8});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 1", "norms 0 of 1: 100"));
  Totals(0, 1, NormRound::kGradient, {400});  // others have some, too: 20
  EXPECT_THAT(Heard(0), ElementsAre("params 2 v2: -3.5 -5"));
  Push(0, 2, {3, 4});
  Totals(0, 2, NormRound::kGradient, {25});  // exactly the bound
  EXPECT_THAT(Heard(0), ElementsAre("consumed 2", "norms 0 of 2: 25", "params 3 v3: -6.5 -9"));
  Push(0, 3, {0, 0});
  Totals(0, 3, NormRound::kGradient, {0});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 3", "norms 0 of 3: 0", "params 4 v4: -6.5 -9"));
  EXPECT_EQ(counters_.Read().applies, 4);
}

TEST_F(ClippedSlice, ClipsTheMeanOfTheReplicas) {
  MakeClipped(2);
  Push(1, 0, {0, 16});
  Push(0, 0, {12, 0});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "norms 0 of 0: 400"));
  EXPECT_THAT(Heard(1), ElementsAre("held 0"));
  Totals(0, 0, NormRound::kGradient, {400});  // of the sum: 20; of the mean: 10
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -2 -3"));
  EXPECT_THAT(Heard(1), ElementsAre("params 1 v1: -2 -3"));
}

TEST_F(ClippedSlice, ByValueComesAfterByNorm) {
  options_.clip_value = 3.5f;
  MakeClipped(1);
  Push(0, 0, {6, 8});
  Totals(0, 0, NormRound::kGradient, {100});  // {3, 4}, and then {3, 3.5}
  EXPECT_EQ(Heard(0).back(), "params 1 v1: -2 -2.5");
}

TEST_F(ClippedSlice, NothingButTheAwaitedTotalsFromTheirPeerMovesIt) {
  MakeClipped(2);
  Totals(0, 0, NormRound::kGradient, {100});
  Push(0, 0, {12, 0});
  Totals(0, 0, NormRound::kGradient, {144});
  Push(1, 0, {0, 16});
  Heard(0);
  Totals(1, 0, NormRound::kGradient, {400});  // not asked
  Totals(0, 1, NormRound::kGradient, {400});
  Totals(0, 0, NormRound::kTrust, {1, 400});
  EXPECT_EQ(counters_.Read().repeated, 5);
  EXPECT_THAT(Heard(0), IsEmpty());
  for (const double wrong : {399.0, -1.0, kNan, kInf}) {
    Totals(0, 0, NormRound::kGradient, {wrong});
    EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("the totals for 'w'[0:2] at step 0 are less")));
  }
  EXPECT_EQ(counters_.Read().refused, 4);
  EXPECT_EQ(counters_.Read().applies, 0);
  Totals(0, 0, NormRound::kGradient, {400});
  Totals(0, 0, NormRound::kGradient, {400});  // twice
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -2 -3"));
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v1: -2 -3"));
  EXPECT_EQ(counters_.Read().repeated, 6);
  EXPECT_EQ(counters_.Read().applies, 1);
}

TEST_F(ClippedSlice, WhoeverPushesReplica0AgainGetsTheSumsAgain) {
  MakeClipped(1);
  Push(0, 0, {6, 8});
  EXPECT_EQ(Heard(0).back(), "norms 0 of 0: 100");
  const auto old = peers_[0];
  slice_->Detach(*old);
  streams_[0] = std::make_shared<FakeStream>();
  peers_[0] = std::make_shared<Peer>(streams_[0]);
  slice_->OnPull(peers_[0], AskClockMessage(0, 0));
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0")) << "its step 0 is not counted whole";
  Push(0, 0, {50, 50});
  EXPECT_THAT(Heard(0), ElementsAre("repeated 0", "norms 0 of 0: 100"));
  slice_->OnTotals(old, TotalsMessage(0, 0, NormRound::kGradient, {100}));
  EXPECT_EQ(counters_.Read().applies, 0) << "late totals of who had it before";
  Totals(0, 0, NormRound::kGradient, {100});
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -2 -3"));
  Push(0, 0, {50, 50});
  EXPECT_THAT(Heard(0), ElementsAre("repeated 0", "norms 0 of 0: 100", "params 1 v1: -2 -3"))
      << "other slices may still wait";
  slice_->OnPull(peers_[0], AskClockMessage(0, 0));
  EXPECT_THAT(Heard(0), ElementsAre("consumed 1"));
}

TEST_F(ClippedSlice, WhoeverComesForReplica0BeforeTheStepIsWholePushesItAgain) {
  MakeClipped(2);
  Push(0, 0, {12, 0});
  slice_->Detach(*peers_[0]);
  streams_[0] = std::make_shared<FakeStream>();
  peers_[0] = std::make_shared<Peer>(streams_[0]);
  slice_->OnPull(peers_[0], AskClockMessage(0, 0));
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0")) << "else nobody would gather step 0";
  Push(1, 0, {0, 16});
  EXPECT_THAT(Heard(0), IsEmpty());
  Push(0, 0, {12, 0});
  EXPECT_THAT(Heard(0), ElementsAre("repeated 0", "norms 0 of 0: 400"));
  slice_->OnPull(peers_[1], AskClockMessage(0, 1));
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "consumed 1")) << "replica 1 need not";
  Totals(0, 0, NormRound::kGradient, {400});
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -2 -3"));
}

TEST_F(ClippedSlice, ReadsAndPushesThatComeWhileItWaits) {
  MakeClipped(2);
  Push(0, 0, {12, 0}, false);
  Push(1, 0, {0, 16}, false);
  Pull(1, 0, 0);
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 0 v0: 1 1"));
  Pull(1, 1);
  Pull(1, 1, -1, /*all_at_clock=*/true);
  Push(1, 1, {4, 4});
  Push(0, 1, {4, 4});  // nobody who read version 1 can send these
  EXPECT_THAT(Heard(1), ElementsAre("held 1"));
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "norms 0 of 0: 400", "held 1"));
  Totals(0, 0, NormRound::kGradient, {400});
  EXPECT_THAT(Heard(0), ElementsAre("norms 0 of 1: 128"));
  EXPECT_THAT(Heard(1), ElementsAre("params 1 v1: -2 -3", "params 1 v1: -2 -3"));
  Totals(0, 1, NormRound::kGradient, {128 / 16.0 * 128});
  EXPECT_EQ(counters_.Read().applies, 2);
}

TEST_F(ClippedSlice, ACutWaitsForTheVersionOfItsClock) {
  const harness::TemporaryFolder folder;
  MakeClipped(1);
  slice_->OnCut(cuts_->Begin(1, folder.path(), 1));
  Push(0, 0, {6, 8});
  const std::shared_ptr<Cut> cut = cuts_->Begin(1, folder.path(), 1);
  slice_->OnCut(cut);
  {
    MutexLock lock(cut->mu);
    EXPECT_EQ(cut->missing, 1u);
    EXPECT_FALSE(cut->failed);
  }
  Totals(0, 0, NormRound::kGradient, {100});
  cuts_.reset();  // writes what is complete
  ASSERT_EQ(cuts_done_.size(), 2u);
  for (const CutDone& done : cuts_done_) EXPECT_TRUE(done.status.ok()) << done.status;
}

TEST_F(ClippedSlice, AGradientThatIsNotFiniteGivesTheStepUp) {
  MakeClipped(2);
  Push(0, 0, {1, 1});
  Push(1, 0, {static_cast<float>(kNan), 1});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", HasSubstr("not finite")));
  EXPECT_THAT(Heard(1), ElementsAre(HasSubstr("not finite")));
  EXPECT_EQ(bad_.size(), 1u);
}

TEST_F(ClippedSlice, StatisticsNeitherWaitNorCount) {
  options_.clip_norm = 5;
  Make("BSP", 1, 0, 1 << 20,
       {.name = "mean", .shape = {2}, .kind = ParamSpec::Kind::kStatistic, .momentum = 0.5f});
  Push(0, 0, {10, -10});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 5 -5"));

  // A bundle: the weight [3] from element 16 on.
  Make("BSP", 1, 0, 1 << 20,
       {{.name = "mean", .shape = {2}, .kind = ParamSpec::Kind::kStatistic, .momentum = 0.5f},
        {.name = "w", .shape = {3}}});
  std::vector<float> gradient(19, 0.0f);
  gradient[0] = 100;
  gradient[16] = 10;
  Push(0, 0, gradient);
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "norms 0 of 0: 100"));
  Totals(0, 0, NormRound::kGradient, {100});
  const std::vector<rpc::Message> answer = streams_[0]->Take();
  ASSERT_EQ(answer.size(), 1u);
  const std::vector<float> w = FloatsOf(answer[0]);
  EXPECT_EQ(w[0], 50);
  EXPECT_EQ(w[16], -5);
}

class LambSlice : public SliceTest {
 protected:
  LambSlice() {
    optimizer_ = *MakeOptimizer("lamb", {{"beta1", 0.5}, {"beta2", 0.5}, {"epsilon", 1e-6}});
  }
  static std::vector<double> Squares(const rpc::Message& norms) { return DoublesOf(norms.payload); }
  // Pushes, answers with the slice's own sums, which are all there are, and returns the weights.
  std::vector<float> Step(int64_t step, const std::vector<float>& gradient) {
    Push(0, step, gradient);
    const std::vector<rpc::Message> heard = streams_[0]->Take();
    EXPECT_EQ(heard.size(), 2u);
    norms_ = Squares(heard.back());
    Totals(0, step, NormRound::kTrust, norms_);
    const std::vector<rpc::Message> answer = streams_[0]->Take();
    EXPECT_EQ(answer.size(), 1u);
    return FloatsOf(answer.back());
  }
  std::vector<double> norms_;
};

// Three steps by hand. The gradients are chosen so that sqrt(v_hat) is plain: with beta 1/2 and
// t = 1, m_hat = g and v_hat = g^2, so r = sign(g); rate 1, so each step is as long as the weights.
TEST_F(LambSlice, ThreeStepsByHand) {
  Make("BSP", 1);
  // w = (1, 1), |w| = sqrt 2; r = (1, -1), |r| = sqrt 2.
  std::vector<float> w = Step(0, {3, -3});
  EXPECT_NEAR(norms_[0], 2, 1e-6);
  EXPECT_NEAR(norms_[1], 2, 1e-5);
  EXPECT_NEAR(w[0], 0, 1e-5);
  EXPECT_NEAR(w[1], 2, 1e-5);
  // m = (1.5, -1.5) -> (2.25, -0.75), / (1 - 1/4) = (3, -1); v = (4.5, 4.5) -> (6.75, 2.75), / 0.75
  // = (9, 11/3); r = (1, -1 / sqrt(11/3)), |r|^2 = 1 + 3/11 = 14/11; |w| = 2.
  w = Step(1, {3, 0 + 0.0f});
  const double v1 = (0.5 * 4.5) / 0.75, m1 = (0.5 * -1.5) / 0.75;  // of element 1: no gradient
  const double r1 = m1 / std::sqrt(v1);
  const double trust = 2 / std::sqrt(1 + r1 * r1);
  EXPECT_NEAR(norms_[1], 1 + r1 * r1, 1e-5);
  EXPECT_NEAR(w[0], -trust, 1e-5);
  EXPECT_NEAR(w[1], 2 - trust * r1, 1e-5);
  // A third with g = 0 for both: m = (2.25, -0.75) / 2, v = (6.75, 2.25) / 2, over 1 - 1/8.
  const double a = w[0], b = w[1];
  w = Step(2, {0, 0});
  const double r0 = (1.125 / 0.875) / std::sqrt(3.375 / 0.875);
  const double r2 = (-0.375 / 0.875) / std::sqrt(1.125 / 0.875);
  const double last = std::sqrt((a * a + b * b) / (r0 * r0 + r2 * r2));
  EXPECT_NEAR(w[0], a - last * r0, 1e-5);
  EXPECT_NEAR(w[1], b - last * r2, 1e-5);
}

TEST_F(LambSlice, TheRatioIs1WhereANormIs0AndForParametersWithoutDecay) {
  Make("BSP", 1, 0, 1 << 20, {.name = "w", .shape = {2}});  // all 0
  std::vector<float> w = Step(0, {3, -3});
  EXPECT_NEAR(w[0], -1, 1e-5);
  Make("BSP", 1, 0, 1 << 20, {.name = "w", .shape = {2}, .init = {Init::Kind::kConstant, 1}});
  EXPECT_THAT(Step(0, {0, 0}), ElementsAre(1, 1)) << "a direction of 0";
  Make("BSP", 1, 0, 1 << 20,
       {.name = "bias", .shape = {2}, .init = {Init::Kind::kConstant, 8}, .decay = false});
  w = Step(0, {3, -3});
  EXPECT_NEAR(w[0], 7, 1e-5);
  EXPECT_NEAR(w[1], 9, 1e-5);
}

// A bundle's parameters have ratios of their own.
TEST_F(LambSlice, EachParameterHasItsOwnRatio) {
  Make("BSP", 1, 0, 1 << 20,
       {{.name = "a", .shape = {2}, .init = {Init::Kind::kConstant, 1}},
        {.name = "mean", .shape = {1}, .kind = ParamSpec::Kind::kStatistic},
        {.name = "b", .shape = {2}, .init = {Init::Kind::kConstant, 10}}});
  std::vector<float> gradient(34, 0.0f);
  gradient[0] = gradient[1] = gradient[32] = gradient[33] = 1;
  const std::vector<float> w = Step(0, gradient);
  EXPECT_EQ(norms_.size(), 4u);
  EXPECT_NEAR(w[0], 0, 1e-5);
  EXPECT_NEAR(w[32], 0, 1e-4);
}

TEST_F(LambSlice, ClipsFirstAndThenAsksForTheNorms) {
  options_.clip_norm = 5;
  options_.weight_decay = 1;
  Make("BSP", 1);
  Push(0, 0, {6, 8});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "norms 0 of 0: 100"));
  Totals(0, 0, NormRound::kTrust, {2, 100});
  EXPECT_THAT(Heard(0), IsEmpty()) << "not this round's";
  Totals(0, 0, NormRound::kGradient, {100});
  const std::vector<rpc::Message> heard = streams_[0]->Take();
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].header.code, static_cast<uint16_t>(NormRound::kTrust));
  EXPECT_NEAR(Squares(heard[0])[1], 8, 1e-4) << "r = (1, 1) + w";
  Push(0, 0, {50, 50}, /*want=*/false);  // whoever comes anew gathers both rounds
  const std::vector<rpc::Message> again = streams_[0]->Take();
  ASSERT_EQ(again.size(), 3u);
  EXPECT_EQ(again[1].header.code, static_cast<uint16_t>(NormRound::kGradient));
  EXPECT_EQ(again[2].header.code, static_cast<uint16_t>(NormRound::kTrust));
  Totals(0, 0, NormRound::kGradient, {100});
  Totals(0, 0, NormRound::kTrust, {2, 8});
  EXPECT_EQ(counters_.Read().applies, 1);
  EXPECT_EQ(counters_.Read().repeated, 3);
}

TEST_F(LambSlice, WeightsThatAreNotFiniteGiveTheStepUp) {
  schedule_ = [](int64_t) { return 3e38f; };
  Make("BSP", 1);
  Step(0, {1, 1});
  Step(1, {1, 1});
  EXPECT_EQ(bad_.size(), 0u);
  Push(0, 2, {1, 1});
  EXPECT_EQ(bad_.size(), 1u);
  EXPECT_THAT(Heard(0).back(), HasSubstr("not finite"));
}

// Every bit of float64: rounded to a float32 factor, a wrong order would show once in a billion
// steps.
TEST_F(LambSlice, TheTotalsHaveTheSameBitsHoweverTheModelIsCut) {
  std::mt19937 rng(8);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Make("BSP", 1, 0, 1 << 20,
       {{.name = "big", .shape = {700'001}, .init = {Init::Kind::kUniform, 1}},
        {.name = "a", .shape = {30}, .init = {Init::Kind::kUniform, 1}},
        {.name = "b", .shape = {9000}, .init = {Init::Kind::kUniform, 1}},
        {.name = "c", .shape = {70'000}, .init = {Init::Kind::kUniform, 1}}});
  std::vector<float> gradient(static_cast<size_t>(table_.arena_size()), 0.0f);
  for (ParamId p = 0; p < 4; ++p) {
    const auto begin = static_cast<size_t>(table_.offset(p));
    const auto size = static_cast<size_t>(table_.specs()[static_cast<size_t>(p)].size());
    for (size_t i = begin; i < begin + size; ++i) gradient[i] = uniform(rng);
  }
  for (const NormRound round : {NormRound::kGradient, NormRound::kTrust}) {
    options_.clip_norm = round == NormRound::kGradient ? 5 : std::numeric_limits<float>::infinity();
    std::vector<double> expected;
    std::set<size_t> cuts;
    for (const int servers : {1, 2, 3, 5}) {
      partition_ = MakePartition(table_, servers);
      cuts.insert(partition_.slices.size());
      NormTotals totals(table_, partition_);
      for (size_t id = 0; id < partition_.slices.size(); ++id) {
        const ParamSlice& place = partition_.slices[id];
        const std::span<const float> part = std::span<const float>(gradient).subspan(
            static_cast<size_t>(place.offset(table_)), static_cast<size_t>(place.size));
        Slice slice(context_, static_cast<int32_t>(id));
        slice.Initialize();
        slice.OnPush(peers_[0], PushMessage(static_cast<int32_t>(id), 0, 0, false,
                                            rpc::Payload::Borrow(std::as_bytes(part))));
        const rpc::Message norms = streams_[0]->Take().back();
        ASSERT_EQ(norms.header.type, rpc::MessageType::kNorms);
        totals.Add(static_cast<int32_t>(id), 0, round, norms.payload);
      }
      std::vector<double> got;
      for (ParamId p = 0; p < 4; ++p) {
        const int32_t id = partition_.of_param[static_cast<size_t>(p)].front();
        const std::vector<double> of = totals.Of(id, round);
        const bool first = partition_.slices[static_cast<size_t>(id)].param == p;
        if (first) got.insert(got.end(), of.begin(), of.end());
      }
      // Whatever is bundled with whom, the values come in the order of the parameters.
      if (round == NormRound::kGradient) got.resize(1);
      if (expected.empty()) expected = got;
      EXPECT_EQ(got, expected) << servers << " servers";
    }
    EXPECT_GT(cuts.size(), 2u) << "the model was cut alike";
  }
}

TEST_F(ClippedSlice, SspAndAsyncDoNotWait) {
  options_.clip_norm = 5;
  for (const char* mode : {"SSP", "ASYNC"}) {
    Make(mode, 1);
    Push(0, 0, {6, 8});
    EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: -5 -7"));
  }
}

}  // namespace
}  // namespace muster::ps
