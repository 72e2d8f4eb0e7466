#include "master/early_stop.h"

#include <gtest/gtest.h>

namespace muster::master {
namespace {

using Action = EarlyStop::Action;

constexpr RoleId kChief = {RoleId::Kind::kChief, 0}, kWorker = {RoleId::Kind::kWorker, 0};
constexpr RoleId kServer0 = {RoleId::Kind::kServer, 0}, kServer1 = {RoleId::Kind::kServer, 1};

// Chief and worker, two servers, steps 100 … 400, a checkpoint every 50.
EarlyStop TwoOfEach() {
  return EarlyStop({.trainers = 2, .servers = 2, .start = 100, .total = 400, .cut_interval = 50});
}

TEST(EarlyStop, EndsOneStepAfterTheMostThatAnybodyHasBegun) {
  EarlyStop stop = TwoOfEach();
  EXPECT_EQ(stop.OnHeld(kChief, 173), Action::kWait);
  EXPECT_FALSE(stop.target().has_value()) << "the worker may have begun more";
  EXPECT_EQ(stop.OnHeld(kWorker, 171), Action::kCut);
  EXPECT_EQ(stop.target(), 174);
}

TEST(EarlyStop, TrainersGoOnOnceEveryServerWillCut) {
  EarlyStop stop = TwoOfEach();
  stop.OnHeld(kChief, 173);
  stop.OnHeld(kWorker, 171);
  EXPECT_EQ(stop.OnCutAccepted(kServer1), Action::kWait);
  EXPECT_EQ(stop.OnCutAccepted(kServer1), Action::kWait) << "the same server again";
  EXPECT_EQ(stop.OnCutAccepted(kServer0), Action::kGo);
  EXPECT_EQ(stop.OnCutAccepted(kServer0), Action::kWait) << "they have been told";
}

TEST(EarlyStop, ACutThatServersKnowFromTheStartNeedsNoWord) {
  EarlyStop stop = TwoOfEach();
  stop.OnHeld(kChief, 199);
  EXPECT_EQ(stop.OnHeld(kWorker, 198), Action::kGo);
  EXPECT_EQ(stop.target(), 200);
}

TEST(EarlyStop, ARunNearItsEndJustFinishes) {
  for (int64_t begun : {399, 400}) {
    EarlyStop stop = TwoOfEach();
    stop.OnHeld(kChief, 399);
    EXPECT_EQ(stop.OnHeld(kWorker, begun), Action::kGo);
    EXPECT_EQ(stop.target(), 400);
  }
}

TEST(EarlyStop, BeforeTheFirstStepItEndsAfterIt) {
  EarlyStop stop({.trainers = 1, .servers = 1, .start = 100, .total = 400});
  EXPECT_EQ(stop.OnHeld(kChief, 0), Action::kCut);
  EXPECT_EQ(stop.target(), 101);
}

TEST(EarlyStop, WordsOutOfTurnChangeNothing) {
  EarlyStop stop = TwoOfEach();
  EXPECT_EQ(stop.OnCutAccepted(kServer0), Action::kWait) << "of what cut?";
  EXPECT_EQ(stop.OnHeld(kChief, 120), Action::kWait);
  EXPECT_EQ(stop.OnHeld(kChief, 121), Action::kWait) << "the same trainer again";
  EXPECT_EQ(stop.OnHeld(kWorker, 120), Action::kCut);
  EXPECT_EQ(stop.OnHeld(kWorker, 130), Action::kWait);
  EXPECT_EQ(stop.target(), 122);
}

}  // namespace
}  // namespace muster::master
