// One slice with backup workers: nothing is added before the quorum says whose; then the others'
// gradients are let go, and who is late is told so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/harness/temporary_folder.h"
#include "tests/ps/slice_fixture.h"

namespace muster::ps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Three replicas, of which one may be late: the mean is of two.
class BackupSliceTest : public SliceTest {
 protected:
  void SetUp() override {
    backups_ = 1;
    Make("BSP", 3);
  }
  void Decide(int64_t step, const ReplicaSet& counted) { slice_->OnDecision({step, counted}); }
  // Of replica v; the slice's reference keeps the memory alive.
  std::weak_ptr<const void> PushOwned(int v, int64_t step, const std::vector<float>& gradient) {
    auto owned = std::make_shared<const std::vector<float>>(gradient);
    slice_->OnPush(peers_[static_cast<size_t>(v)],
                   PushMessage(0, v, step, /*want_params=*/true,
                               rpc::Payload::Borrow(std::as_bytes(std::span(*owned)), owned)));
    return owned;
  }
  ReplicaSet Without(int v) {
    ReplicaSet out(3, true);
    out[static_cast<size_t>(v)] = false;
    return out;
  }
};

TEST_F(BackupSliceTest, AStepIsTheMeanOfThoseItCounts) {
  Push(2, 0, {100, 100});
  Push(1, 0, {2, 0});
  Push(0, 0, {0, 4});
  for (int v = 0; v < 3; ++v) EXPECT_THAT(Heard(v), ElementsAre("held 0"));
  Decide(0, Without(2));
  for (int v = 0; v < 3; ++v) EXPECT_THAT(Heard(v), ElementsAre("params 1 v1: 0 -1"));
  EXPECT_EQ(counters_.applies, 1);
  EXPECT_EQ(counters_.dropped, 1);
}

TEST_F(BackupSliceTest, TheSumRunsInReplicaOrderWhateverTheArrival) {
  backups_ = 1;
  Make("BSP", 4);
  // 1e8 + 1 - 1e8 depends on the order in float32.
  Push(3, 0, {-1e8f, 0});
  Push(1, 0, {1, 0});
  Push(0, 0, {1e8f, 0});
  Heard(0);
  Decide(0, {true, true, false, true});
  const float sum = (1e8f + 1) + -1e8f;
  EXPECT_THAT(Heard(0), ElementsAre(fmt::format("params 1 v1: {} 1", 1 - sum * (1.0f / 3))));
}

TEST_F(BackupSliceTest, NoReferenceToAGradientIsLeftWhetherItCountedOrNot) {
  const auto late = PushOwned(0, 0, {1, 1});
  const auto counted = PushOwned(1, 0, {1, 1});
  const auto last = PushOwned(2, 0, {1, 1});
  EXPECT_FALSE(late.expired());
  EXPECT_EQ(counters_.held_bytes, 24);
  Decide(0, Without(0));
  EXPECT_TRUE(late.expired());
  EXPECT_TRUE(counted.expired());
  EXPECT_TRUE(last.expired());
  EXPECT_EQ(counters_.held_bytes, 0);
  EXPECT_EQ(held_->bytes(), 0);
  EXPECT_TRUE(PushOwned(0, 0, {1, 1}).expired()) << "it was there before";
}

TEST_F(BackupSliceTest, WhoComesAfterTheDecisionIsDroppedAndGoesOn) {
  Push(0, 0, {2, 2});
  Push(1, 0, {2, 2});
  Decide(0, Without(2));
  EXPECT_TRUE(PushOwned(2, 0, {100, 100}).expired());
  EXPECT_THAT(Heard(2), ElementsAre("late 0", "params 1 v1: -1 -1"));
  Push(2, 0, {100, 100}, /*want=*/false);
  EXPECT_THAT(Heard(2), ElementsAre("repeated 0"));
  EXPECT_EQ(counters_.dropped, 1);
  EXPECT_EQ(counters_.repeated, 1);
  Push(2, 1, {2, 2});
  EXPECT_THAT(Heard(2), ElementsAre("held 1"));
}

TEST_F(BackupSliceTest, WhoIsFarBehindIsToldThatItsVersionIsGone) {
  for (int64_t step = 0; step < 4; ++step) {
    Push(0, step, {0, 0});
    Push(1, step, {0, 0});
    Decide(step, Without(2));
  }
  Push(2, 0, {1, 1});
  EXPECT_THAT(Heard(2), ElementsAre("late 0", "gone 1"));
  Pull(2, 4, 4);
  EXPECT_THAT(Heard(2), ElementsAre("params 4 v4: 1 1"));
  Pull(2, 5, 5);
  EXPECT_THAT(Heard(2), IsEmpty()) << "a version to come is waited for";
}

TEST_F(BackupSliceTest, EveryAckAsksToBeToldOfTheWholeStep) {
  Push(0, 0, {0, 0}, /*want=*/false);
  Push(0, 0, {0, 0}, /*want=*/false);
  Push(1, 0, {0, 0}, /*want=*/false);
  Decide(0, Without(2));
  Push(2, 0, {0, 0}, /*want=*/false);
  for (int v = 0; v < 3; ++v) {
    for (const rpc::Message& ack : streams_[static_cast<size_t>(v)]->Take()) {
      EXPECT_NE(ack.header.flags & kTellArrived, 0) << "replica " << v;
    }
  }
}

TEST_F(BackupSliceTest, AnswersAreCopiesSinceALateReaderMayStillRead) {
  Push(0, 0, {2, 2});
  Push(1, 0, {2, 2});
  Decide(0, Without(2));
  const rpc::Message answer = streams_[0]->Take().back();
  for (int64_t step = 1; step < 4; ++step) {
    Push(0, step, {2, 2}, /*want=*/false);
    Push(1, step, {2, 2}, /*want=*/false);
    Decide(step, Without(2));
  }
  EXPECT_THAT(FloatsOf(answer), ElementsAre(-1, -1));
}

TEST_F(BackupSliceTest, AStepOfWhichAllCameIsNotSavedBeforeItIsDecided) {
  harness::TemporaryFolder folder;
  slice_->OnCut(cuts_->Begin(1, folder.path(), 1));
  for (int v = 0; v < 3; ++v) Push(v, 0, {2, 2});
  Push(0, 0, {2, 2});  // once more
  Decide(0, Without(0));
  cuts_.reset();  // written
  ASSERT_EQ(cuts_done_.size(), 1u);
  ASSERT_TRUE(cuts_done_[0].status.ok()) << cuts_done_[0].status;
  EXPECT_THAT(*ReadFullParams({cuts_done_[0].file}, table_),
              testing::Contains(-1.0f).Times(testing::Ge(2)));
}

TEST_F(BackupSliceTest, AClockIsWhatIsDecidedNotWhatIsHeld) {
  Push(0, 0, {2, 2});
  Heard(0);
  slice_->OnPull(peers_[0], AskClockMessage(0, 0));
  const auto answer = streams_[0]->Take();
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].header.step, 0) << "whoever goes on has to push step 0 again";
}

TEST_F(BackupSliceTest, AStepAheadIsRefusedSoThatASliceHoldsOneGradientOfEach) {
  Push(0, 0, {0, 0});
  Heard(0);
  Push(0, 1, {0, 0});
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("error: replica 0 pushed step 1")));
}

TEST_F(BackupSliceTest, AHeldGradientSurvivesItsWorker) {
  std::vector<float> gradient = {2, 2};
  slice_->OnPush(peers_[0], PushMessage(0, 0, 0, /*want_params=*/false,
                                        rpc::Payload::Borrow(std::as_bytes(std::span(gradient)))));
  slice_->Detach(*peers_[0]);
  gradient = {1000, 1000};
  Push(1, 0, {2, 2});
  Decide(0, Without(2));
  EXPECT_THAT(Heard(1), ElementsAre("held 0", "params 1 v1: -1 -1"));
}

TEST_F(BackupSliceTest, ANonFiniteGradientOnlyMattersWhenItCounts) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Push(0, 0, {nan, 0});
  Push(1, 0, {2, 2});
  Push(2, 0, {2, 2});
  Decide(0, Without(0));
  EXPECT_THAT(Heard(1), ElementsAre("held 0", "params 1 v1: -1 -1"));
  Heard(0);
  Push(0, 1, {2, 2});
  Push(1, 1, {nan, 2});
  Push(2, 1, {2, 2});
  Decide(1, Without(2));
  EXPECT_THAT(Heard(1), ElementsAre("held 1", HasSubstr("from replica 1 holds a value"),
                                    HasSubstr("error: ")));
  EXPECT_EQ(held_->bytes(), 0);
  ASSERT_EQ(bad_.size(), 1u);
}

TEST_F(BackupSliceTest, ADecisionThatCountsWhoNeverPushedStopsTheSliceAndKeepsItsWeights) {
  Push(0, 0, {2, 2});
  Push(2, 0, {2, 2});
  Decide(0, Without(2));
  EXPECT_THAT(Heard(0), ElementsAre("held 0",
                                    "error: replica 1 is said to have pushed step 0 of 'w'[0:2], "
                                    "and has not",
                                    HasSubstr("and has not")));
  ASSERT_EQ(bad_.size(), 1u);
  EXPECT_EQ(counters_.applies, 0);
  EXPECT_EQ(held_->bytes(), 0);
  Pull(1, 0, 0);
  EXPECT_THAT(Heard(1), ElementsAre("params 0 v0: 1 1"));
  Decide(7, Without(0));  // nothing follows
  Push(1, 0, {2, 2});
  EXPECT_THAT(Heard(1), ElementsAre(HasSubstr("and has not")));
}

TEST_F(BackupSliceTest, StatisticsAreAveragedOverThoseThatCount) {
  Make("BSP", 3, 0, 1 << 20,
       {.name = "mean", .shape = {2}, .kind = ParamSpec::Kind::kStatistic, .momentum = 0.5f});
  Push(0, 0, {2, 8});
  Push(1, 0, {6, 0});
  Decide(0, Without(2));
  EXPECT_THAT(Heard(0), ElementsAre("held 0", "params 1 v1: 2 2"));
}

}  // namespace
}  // namespace muster::ps
