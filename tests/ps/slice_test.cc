// One slice, step by step: who is answered what and when, what is held, refused, saved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "tests/harness/temporary_folder.h"
#include "tests/ps/slice_fixture.h"

namespace muster::ps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_F(SliceTest, BspWaitsForAllAndAnswersAllWithTheSameVersion) {
  Make("BSP", 3);
  Push(2, 0, {3, 0});
  EXPECT_THAT(Heard(2), ElementsAre("held 0"));
  Push(0, 0, {0, 3});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0"));
  Push(1, 0, {3, 3});
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -1 -1"));
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v1: -1 -1"));
  EXPECT_THAT(Heard(2), ElementsAre("params 1 v1: -1 -1"));
}

// Answers that a stream still keeps are lent, not copied.
TEST_F(SliceTest, AnAnswerStaysAsItWasForAsLongAsItIsKept) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  Make("ASYNC", 2);
  int64_t steps[2] = {0, 0};
  std::vector<std::pair<rpc::Message, std::vector<float>>> kept;  // with what they said at first
  std::set<const std::byte*> buffers;
  constexpr size_t kMostKept = 5;
  for (int i = 0; i < 500; ++i) {
    const int v = static_cast<int>(rng() % 2);
    if (rng() % 4 == 0) {
      Pull(v, steps[v]);
    } else {
      Push(v, steps[v]++, {static_cast<float>(rng() % 9), 1});
    }
    for (rpc::Message& m : streams_[static_cast<size_t>(v)]->Take()) {
      if (m.header.type != rpc::MessageType::kParams) continue;
      buffers.insert(m.payload.slices().front().bytes.data());
      std::vector<float> floats = FloatsOf(m);
      kept.emplace_back(std::move(m), std::move(floats));
    }
    for (const auto& [message, floats] : kept) ASSERT_EQ(FloatsOf(message), floats) << i;
    while (kept.size() > rng() % (kMostKept + 1)) {
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(rng() % kept.size()));
    }
  }
  EXPECT_LE(buffers.size(), kMostKept + 3) << "buffers that came back are used again";
  EXPECT_GT(buffers.size(), 2u);
}

TEST_F(SliceTest, TheMeanIsClippedAndNotEachGradient) {
  options_.clip_value = 2;
  Make("BSP", 2);
  Push(0, 0, {10, 1});
  Push(1, 0, {-8, 9}, /*want=*/false);
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 0 -1"));
}

TEST_F(SliceTest, StatisticsAreNotClipped) {
  options_.clip_value = 2;
  Make("BSP", 1, 0, 1 << 20,
       {.name = "mean", .shape = {2}, .kind = ParamSpec::Kind::kStatistic, .momentum = 0.5f});
  Push(0, 0, {10, -10});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 5 -5"));
}

TEST_F(SliceTest, BspAddsInReplicaOrderWhateverTheArrival) {
  // 1e8 + 1 - 1e8 depends on the order in float32.
  const std::vector<std::vector<float>> g = {{1e8f, 0}, {1, 0}, {-1e8f, 0}};
  std::vector<int> order = {0, 1, 2};
  std::vector<std::string> heard;
  do {
    Make("BSP", 3);
    for (const int v : order) Push(v, 0, g[static_cast<size_t>(v)], v == 0);
    heard.push_back(Heard(0).back());
    streams_.clear();
  } while (std::next_permutation(order.begin(), order.end()));
  const float sum = (1e8f + 1) + -1e8f;
  EXPECT_THAT(heard, testing::Each(fmt::format("params 1 v1: {} 1", 1 - sum * (1.0f / 3))));
}

TEST_F(SliceTest, BspAnswersToPushesBorrowTheWeights) {
  Make("BSP", 1);
  Push(0, 0, {1, 1});
  const rpc::Message pushed = streams_[0]->Take()[1];
  EXPECT_FALSE(pushed.payload.lent());
  EXPECT_EQ(pushed.header.flags, rpc::kInPlace);
  Push(0, 1, {1, 1});  // writes the other parity
  EXPECT_EQ(FloatsOf(pushed), (std::vector<float>{0, 0})) << "version 1 must outlive version 2";
  Push(0, 2, {1, 1});  // every replica has read version 2: version 1 may go
  EXPECT_EQ(FloatsOf(pushed), (std::vector<float>{-2, -2})) << "not in place";
}

TEST_F(SliceTest, AnswersToPullsAreLentAndDoNotChange) {
  Make("BSP", 1);
  Push(0, 0, {1, 1});
  streams_[0]->Take();
  Pull(0, 1);
  const rpc::Message pulled = streams_[0]->Take()[0];
  EXPECT_TRUE(pulled.payload.lent());
  EXPECT_EQ(pulled.header.flags, 0);
  for (int64_t step = 1; step < 5; ++step) Push(0, step, {1, 1});
  EXPECT_EQ(FloatsOf(pulled), (std::vector<float>{0, 0}));
}

TEST_F(SliceTest, SspAnswersNeverChangeLater) {
  Make("SSP", 1, 1);
  Push(0, 0, {1, 1});
  const rpc::Message first = streams_[0]->Take()[1];
  for (int64_t step = 1; step < 5; ++step) Push(0, step, {1, 1});
  EXPECT_EQ(FloatsOf(first), (std::vector<float>{0, 0}));
}

TEST_F(SliceTest, ARepeatedPushIsOnlyAnsweredAgain) {
  Make("BSP", 2);
  Push(0, 0, {2, 2});
  Push(0, 0, {50, 50});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "repeated 0"));
  Push(1, 0, {2, 2});
  EXPECT_THAT(Heard(0), ElementsAre("params 1 v1: -1 -1", "params 1 v1: -1 -1"));
  Push(1, 0, {50, 50});
  EXPECT_THAT(Heard(1),
              ElementsAre("consumed 0", "params 1 v1: -1 -1", "repeated 0", "params 1 v1: -1 -1"));
  EXPECT_EQ(counters_.Read().applies, 1);
  EXPECT_EQ(counters_.Read().repeated, 2);
}

TEST_F(SliceTest, ARepeatedPushWhileTheFirstIsHeld) {
  Make("BSP", 2);
  Push(1, 0, {2, 2}, false);
  Push(1, 0, {50, 50}, false);
  Push(0, 0, {2, 2});
  EXPECT_THAT(Heard(1), ElementsAre("held 0", "repeated 0"));
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: -1 -1"));
}

TEST_F(SliceTest, APushFromTheFutureIsRefused) {
  Make("SSP", 2, 5);
  Push(0, 1, {1, 1});
  EXPECT_THAT(Heard(0), ElementsAre("error: replica 0 pushed step 1 of 'w'[0:2], but its clock "
                                    "there is 0"));
  Push(0, 0, {2, 2});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 0 0"));
}

TEST_F(SliceTest, SspLetsAReplicaRunAheadByTheBoundOnly) {
  Make("SSP", 2, 2);
  for (int64_t step = 0; step < 3; ++step) Push(0, step, {2, 0});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 0 1", "consumed 1",
                                    "params 2 v2: -1 1", "consumed 2"));
  Push(1, 0, {0, 2});
  EXPECT_THAT(Heard(0), ElementsAre("params 3 v4: -2 0"));
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v4: -2 0"));
}

TEST_F(SliceTest, AsyncNeverWaits) {
  Make("ASYNC", 2);
  for (int64_t step = 0; step < 9; ++step) Push(0, step, {2, 0}, step == 8);
  EXPECT_EQ(Heard(0).back(), "params 9 v9: -8 1");
}

TEST_F(SliceTest, AsyncCountsStaleGradientsLessWhereAsked) {
  scale_by_staleness_ = true;
  Make("ASYNC", 2);
  for (int64_t step = 0; step < 4; ++step) Push(0, step, {0, 2}, false);
  Heard(0);
  Push(1, 0, {8, 0});  // 4 steps behind: 8 / 2 replicas / 4
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v5: 0 -3"));
  Push(1, 1, {6, 0});  // 3 behind
  EXPECT_THAT(Heard(1), ElementsAre("consumed 1", "params 2 v6: -1 -3"));
}

TEST_F(SliceTest, APullAtAClockWaitsForEveryReplicaUnderEveryMode) {
  for (const char* mode : {"BSP", "SSP", "ASYNC"}) {
    streams_.clear();
    Make(mode, 2, 3);
    Pull(0, 1, -1, true);
    Push(0, 0, {2, 2}, false);
    EXPECT_THAT(Heard(0), ElementsAre("consumed 0")) << mode;
    Push(1, 0, {2, 2}, false);
    EXPECT_THAT(Heard(0), ElementsAre(testing::EndsWith(": -1 -1"))) << mode;
  }
}

TEST_F(SliceTest, ExactVersionsOfTheNewestTwoAreServedAndOlderOnesAreGone) {
  Make("BSP", 1);
  for (int64_t step = 0; step < 3; ++step) Push(0, step, {1, 1}, false);
  Heard(0);
  Pull(0, 3, 3);
  Pull(0, 2, 2);
  Pull(0, 2);
  EXPECT_THAT(Heard(0),
              ElementsAre("params 3 v3: -2 -2", "params 2 v2: -1 -1", "params 2 v2: -1 -1"));
  Pull(0, 1, 1);
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("error: replica 0 asks for version 1")));
  Pull(0, 4, 4);
  EXPECT_THAT(Heard(0), IsEmpty());
  Push(0, 3, {1, 1}, false);
  EXPECT_THAT(Heard(0), ElementsAre("consumed 3", "params 4 v4: -3 -3"));
}

TEST_F(SliceTest, TheFirstVersionIsServedAtTheStart) {
  Make("BSP", 4);
  Pull(3, 0);
  EXPECT_THAT(Heard(3), ElementsAre("params 0 v0: 1 1"));
}

TEST_F(SliceTest, ANonFiniteFirstGradientIsRefusedAndMayBePushedAgain) {
  Make("BSP", 2);
  Push(0, 0, {2, kNan});
  ASSERT_EQ(bad_.size(), 1u);
  EXPECT_THAT(std::string(bad_[0].message()),
              HasSubstr("the gradient of 'w'[0:2] at step 0 from replica 0 holds a value that is "
                        "not finite"));
  EXPECT_THAT(Heard(0), ElementsAre("error: " + std::string(bad_[0].message())));
  Push(0, 0, {2, 2});
  Push(1, 0, {2, 2});
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v1: -1 -1"));
}

// The codecs' own tests are in tests/kernels/codec_test.cc.
TEST_F(SliceTest, AnEncodedGradientIsDecodedBeforeItIsAddedWhereverTheWireCutIt) {
  const auto codec = *MakeCodec("int8");
  const std::vector<float> gradient = {2, -1};
  std::string bytes(codec->EncodedSize(2), '\0');
  std::vector<float> residual(2);
  codec->Encode(gradient, residual, std::as_writable_bytes(std::span(bytes)));
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    for (const int replicas : {1, 2}) {
      Make("BSP", replicas, 0, 1 << 20,
           {.name = "w", .shape = {2}, .init = {Init::Kind::kConstant, 1}, .codec = codec});
      for (int v = replicas - 1; v >= 0; --v) {  // the last one is held
        rpc::Payload payload = rpc::Payload::Own(bytes.substr(0, cut));
        payload.Append(rpc::Payload::Own(bytes.substr(cut)).slices().front());
        slice_->OnPush(peers_[static_cast<size_t>(v)], PushMessage(0, v, 0, true, payload));
      }
      EXPECT_THAT(Heard(0), testing::Contains("params 1 v1: -1 2")) << "cut at " << cut;
    }
  }
  EXPECT_EQ(counters_.bytes_in, static_cast<int64_t>((bytes.size() + 1) * 3 * bytes.size()));
}

TEST_F(SliceTest, WhatACodecCannotDecodeIsRefusedAndChangesNothing) {
  const auto codec = *MakeCodec("int8");
  for (const bool held : {false, true}) {
    bad_.clear();
    Make("BSP", 2, 0, 1 << 20,
         {.name = "w", .shape = {2}, .init = {Init::Kind::kConstant, 1}, .codec = codec});
    const int64_t refused = counters_.refused;
    std::string good(codec->EncodedSize(2), '\0');
    std::vector<float> residual(2);
    codec->Encode(std::vector<float>{2, -1}, residual, std::as_writable_bytes(std::span(good)));
    std::string hostile = good;
    hostile.back() = '\xff';
    const auto push = [&](int v, const std::string& bytes) {
      slice_->OnPush(peers_[static_cast<size_t>(v)],
                     PushMessage(0, v, 0, true, rpc::Payload::Own(bytes)));
    };
    push(held ? 1 : 0, hostile);
    EXPECT_EQ(counters_.refused, refused + 1);
    ASSERT_EQ(bad_.size(), 1u);
    EXPECT_EQ(std::string(bad_[0].message()),
              fmt::format("the gradient of 'w'[0:2] at step 0 from replica {} cannot be decoded: "
                          "int8: block 0 holds a value that is not finite",
                          held ? 1 : 0));
    EXPECT_THAT(Heard(held ? 1 : 0), ElementsAre("error: " + std::string(bad_[0].message())));
    push(0, good);
    push(1, good);
    EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v1: -1 2"));
  }
}

TEST_F(SliceTest, ANonFiniteGradientAmongOthersStopsTheSliceAndKeepsItsWeights) {
  Make("BSP", 3);
  Push(0, 0, {2, 2});
  Push(1, 0, {std::numeric_limits<float>::infinity(), 2});
  EXPECT_EQ(bad_.size(), 1u);
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", HasSubstr("error: the gradient of 'w'[0:2] at "
                                                            "step 0 from replica 1")));
  EXPECT_THAT(Heard(1), ElementsAre(HasSubstr("error: ")));
  Push(2, 0, {2, 2});
  EXPECT_THAT(Heard(2), ElementsAre(HasSubstr("error: ")));
  Pull(2, 0, 0);
  EXPECT_THAT(Heard(2), ElementsAre("params 0 v0: 1 1"));
  EXPECT_EQ(counters_.Read().applies, 0);
}

// The last gradient of a step is used while it is added: what came before the bad value has changed
// the optimizer's slots.
TEST_F(SliceTest, ANonFiniteLastGradientStopsTheSliceAndKeepsItsWeights) {
  Make("BSP", 1);
  Push(0, 0, {2, kNan});
  EXPECT_EQ(bad_.size(), 1u);
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("error: the gradient of 'w'[0:2] at step 0")));
  Push(0, 0, {2, 2});
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("error: the gradient of 'w'[0:2] at step 0")));
  Pull(0, 0, 0);
  EXPECT_THAT(Heard(0), ElementsAre("params 0 v0: 1 1"));
}

// The update had begun to overwrite the version before the newest when the bad value was met.
TEST_F(SliceTest, WhatALostStepOverwroteIsNotServed) {
  Make("BSP", 1);
  Push(0, 0, {1, 1}, false);
  rpc::Payload gradient = Own({5});
  gradient.Append(Own({kNan}).slices()[0]);
  slice_->OnPush(peers_[0], PushMessage(0, 0, 1, false, std::move(gradient)));
  Heard(0);
  Pull(0, 0, 1);
  EXPECT_THAT(Heard(0), ElementsAre("params 0 v1: 0 0"));
  Pull(0, 0, 0);
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("not finite")));
}

TEST_F(SliceTest, ANonFiniteHeldGradientIsNamedWhenItsTurnComes) {
  Make("BSP", 3);
  Push(1, 0, {kNan, 0});
  Push(2, 0, {1, 1});
  EXPECT_THAT(bad_, IsEmpty());
  Push(0, 0, {1, 1});
  ASSERT_EQ(bad_.size(), 1u);
  EXPECT_THAT(std::string(bad_[0].message()), HasSubstr("from replica 1"));
  for (int v = 0; v < 3; ++v) EXPECT_THAT(Heard(v).back(), HasSubstr("error: ")) << v;
  EXPECT_EQ(held_->bytes(), 0);
}

TEST_F(SliceTest, SspRefusesANonFiniteGradientAndGoesOn) {
  Make("SSP", 2, 1);
  Push(0, 0, {kNan, 0});
  Push(1, 0, {2, 2});
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v1: 0 0"));
  EXPECT_EQ(bad_.size(), 1u);
}

TEST_F(SliceTest, BeyondTheBudgetTheAckWaits) {
  Make("BSP", 4, 0, /*budget=*/8);
  Push(3, 0, {1, 1}, false);
  Push(2, 0, {1, 1}, false);
  Push(1, 0, {1, 1}, false);
  EXPECT_THAT(Heard(3), ElementsAre("held 0"));
  EXPECT_THAT(Heard(2), IsEmpty());
  EXPECT_THAT(Heard(1), IsEmpty());
  Push(0, 0, {1, 1}, false);  // the lowest missing one is always taken
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0"));
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0"));
  EXPECT_THAT(Heard(2), ElementsAre("consumed 0"));
  EXPECT_THAT(Heard(3), IsEmpty());
  EXPECT_EQ(held_->bytes(), 0);
}

TEST_F(SliceTest, RoomInTheBudgetSendsAcksThatWaited) {
  HeldGradients held(/*budget=*/10, /*limit=*/25, outbox_);
  Make("BSP", 1);
  const auto gradient = [&](int64_t step) {
    auto out = std::make_shared<HeldGradient>();
    out->peer = peers_[0];
    out->header.step = step;
    out->payload = Own({1, 2});
    return out;
  };
  const auto a = gradient(0), b = gradient(1), c = gradient(2), d = gradient(3);
  EXPECT_TRUE(held.Admit(a));
  EXPECT_TRUE(held.Admit(b));
  EXPECT_TRUE(held.Admit(c));
  EXPECT_FALSE(held.Admit(d)) << "beyond the limit";
  EXPECT_THAT(Heard(0), ElementsAre("held 0"));
  held.Release(*a, true);
  EXPECT_THAT(Heard(0), ElementsAre("held 1"));
  held.Release(*c, true);
  EXPECT_THAT(Heard(0), ElementsAre("consumed 2"));
  held.Release(*b, true);
  EXPECT_THAT(Heard(0), IsEmpty());
  EXPECT_EQ(held.bytes(), 0);
}

TEST_F(SliceTest, StalenessAndHeldBytesAreCounted) {
  Make("SSP", 2, 3);
  for (int64_t step = 0; step < 3; ++step) Push(0, step, {1, 1});
  Push(1, 0, {1, 1});
  ServerStats stats = counters_.Read();
  EXPECT_THAT(stats.staleness, ElementsAre(3, 0, 0, 1, 0, 0, 0, 0)) << "three of 0, one of 3 steps";
  EXPECT_EQ(stats.staleness_sum, 3);

  Make("BSP", 2);
  Push(1, 0, {1, 1});
  EXPECT_EQ(counters_.Read().held_bytes, 8);
  Push(0, 0, {1, 1});
  EXPECT_EQ(counters_.Read().held_bytes, 0);
  EXPECT_EQ(counters_.Read().staleness[0] + counters_.Read().staleness[1], 5);
}

TEST_F(SliceTest, AHeldGradientSurvivesItsWorker) {
  Make("BSP", 2);
  auto memory = std::make_unique<std::vector<float>>(std::vector<float>{2, 2});
  slice_->OnPush(peers_[1], PushMessage(0, 1, 0, true,
                                        rpc::Payload::Borrow(std::as_bytes(std::span(*memory)))));
  slice_->Detach(*peers_[1]);
  memory.reset();
  Push(0, 0, {2, 2});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: -1 -1"));
  EXPECT_THAT(Heard(1), ElementsAre("held 0")) << "a detached reader is answered no more";
}

TEST_F(SliceTest, NoReferenceToAConsumedGradientIsLeft) {
  Make("BSP", 2);
  for (const int v : {1, 0}) {
    auto owned = std::make_shared<const std::vector<float>>(2, 2.0f);
    std::weak_ptr<const std::vector<float>> watch = owned;
    slice_->OnPush(
        peers_[static_cast<size_t>(v)],
        PushMessage(0, v, 0, true, rpc::Payload::Borrow(std::as_bytes(std::span(*owned)), owned)));
    owned.reset();
    EXPECT_EQ(watch.expired(), v == 0) << "held from 1, consumed from 0";
  }
}

TEST_F(SliceTest, ReadersWhoAskWithoutWaitingAreRefused) {
  Make("BSP", 1);
  for (int i = 0; i < 17; ++i) Pull(0, 5, 5);
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("error: 16 readers wait for 'w'[0:2] already")));
}

TEST_F(SliceTest, StatisticsAreAveragedAndFoldedIntoAnEma) {
  const ParamSpec spec = {.name = "mean",
                          .shape = {2},
                          .kind = ParamSpec::Kind::kStatistic,
                          .init = {Init::Kind::kConstant, 1},
                          .momentum = 0.75f};
  Make("BSP", 2, 0, 1 << 20, spec);
  Push(0, 0, {4, 8}, false);
  Push(1, 0, {6, 0});
  EXPECT_THAT(Heard(1), ElementsAre("consumed 0", "params 1 v1: 2 1.75"));
  streams_.clear();
  Make("SSP", 2, 1, 1 << 20, spec);
  Push(0, 0, {5, 1});  // half of the replicas move half as far
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 1.5 1"));
}

TEST_F(SliceTest, CutsAreTakenAtTheirClockAndReportedWhenItHasPassed) {
  const harness::TemporaryFolder temporary;
  const std::string& directory = temporary.path();
  Make("BSP", 1);
  slice_->OnCut(cuts_->Begin(1, directory, 1));
  slice_->OnCut(cuts_->Begin(0, directory + "/now", 1));
  for (int64_t step = 0; step < 3; ++step) Push(0, step, {1, 1}, false);
  slice_->OnCut(cuts_->Begin(2, directory + "/late", 1));
  cuts_.reset();  // joins the writer
  ASSERT_EQ(cuts_done_.size(), 3u);
  EXPECT_EQ(cuts_done_[0].clock, 0);
  EXPECT_EQ(cuts_done_[1].clock, 1);
  EXPECT_TRUE(cuts_done_[0].status.ok()) << cuts_done_[0].status;
  const auto start = ReadFullParams({cuts_done_[0].file}, table_);
  const auto first = ReadFullParams({directory + "/ps-0.safetensors"}, table_);
  ASSERT_TRUE(start.ok() && first.ok()) << start.status() << first.status();
  EXPECT_EQ((*start)[0], 1);
  EXPECT_EQ((*first)[0], 0);
  EXPECT_EQ(cuts_done_[2].status.message(), "cannot save clock 2: 'w'[0:2] is at clock 3 already");
}

TEST_F(SliceTest, ACutIntoAFolderThatCannotBeMadeIsAnErrorAndTrainingGoesOn) {
  Make("BSP", 1);
  slice_->OnCut(cuts_->Begin(0, "/proc/nowhere/checkpoint", 1));
  Push(0, 0, {1, 1});
  EXPECT_THAT(Heard(0), ElementsAre("consumed 0", "params 1 v1: 0 0"));
  cuts_.reset();
  ASSERT_EQ(cuts_done_.size(), 1u);
  EXPECT_THAT(std::string(cuts_done_[0].status.message()), HasSubstr("/proc/nowhere/checkpoint"));
}

TEST_F(SliceTest, EachParameterOfABundleIsUpdatedByItsOwnRules) {
  using Kind = ParamSpec::Kind;
  const Init one = {Init::Kind::kConstant, 1};
  options_.weight_decay = 0.5f;
  Make("BSP", 1, 0, 1 << 20,
       std::vector<ParamSpec>{
           {.name = "w", .shape = {3}, .init = one},
           {.name = "v", .shape = {1}, .init = one},
           {.name = "bias", .shape = {1}, .init = one, .decay = false},
           {.name = "mean", .shape = {1}, .kind = Kind::kStatistic, .momentum = 0.75f},
           {.name = "slow", .shape = {1}, .init = one, .decay = false, .lr_scale = 0.5f}});
  ASSERT_EQ(partition_.slices.size(), 1u);
  std::vector<float> gradient(65, 0.0f);
  gradient[0] = gradient[1] = gradient[2] = gradient[16] = gradient[32] = gradient[64] = 0.25f;
  gradient[48] = 4;
  Push(0, 0, gradient);
  std::vector<float> expected(65, 0.0f);
  expected[0] = expected[1] = expected[2] = expected[16] = 0.25f;  // 1 - (0.25 + 0.5 * 1)
  expected[32] = 0.75f;
  expected[48] = 1;  // 0 + (1 - 0.75) * 4
  expected[64] = 0.875f;
  const std::vector<rpc::Message> heard = streams_[0]->Take();
  ASSERT_EQ(heard.size(), 2u);
  EXPECT_EQ(FloatsOf(heard[1]), expected);
  gradient[64] = kNan;
  Push(0, 1, gradient);
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("'w' to 'slow'")));
}

TEST_F(SliceTest, ABundleComesBackFromACheckpointOfAnotherPartition) {
  const harness::TemporaryFolder folder;
  const Init uniform = {Init::Kind::kUniform, 1};
  const std::vector<ParamSpec> specs = {
      {.name = "w", .shape = {3}, .init = uniform},
      {.name = "mean", .shape = {2}, .kind = ParamSpec::Kind::kStatistic, .init = uniform},
      {.name = "big", .shape = {20'000}, .init = uniform},
      {.name = "v", .shape = {5}, .init = uniform}};
  optimizer_ = *MakeOptimizer("momentum", {});
  Make("BSP", 1, 0, 1 << 20, specs);
  const auto push = [&](int64_t step) {
    std::vector<float> gradient(18, 0.5f);
    for (size_t i = 3; i < 16; ++i) gradient[i] = 0;
    Push(0, step, gradient);
    return FloatsOf(streams_[0]->Take().back());
  };
  push(0);
  SavedSlice bundle = {.slice = 0, .version = 1};
  bundle.weights = push(1);
  // The weights and slots of step 1 as parts of their own, then one step on from there.
  const std::string path = folder.path() + "/part";
  std::vector<float> momentum(18, 0.0f);
  for (size_t i = 0; i < 3; ++i) momentum[i] = 0.5f + 0.9f * 0.5f;
  bundle.slots = {momentum};
  bundle.version = 2;
  std::vector<SavedSlice> saved = {bundle};
  for (size_t id = 1; id < partition_.slices.size(); ++id) {
    const std::vector<float> zeros(static_cast<size_t>(partition_.slices[id].size), 0.0f);
    saved.push_back({static_cast<int32_t>(id), 2, zeros, {zeros}});
  }
  ASSERT_TRUE(
      WriteCheckpointPart(path, table_, partition_, optimizer_->slot_names(), 2, saved).ok());
  const auto checkpoint = Checkpoint::Open({path}, table_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::vector<float> expected = push(2);
  Make("BSP", 1, 0, 1 << 20, specs);
  ASSERT_TRUE(slice_->Restore(*checkpoint).ok());
  EXPECT_EQ(push(2), expected);
}

}  // namespace
}  // namespace muster::ps
