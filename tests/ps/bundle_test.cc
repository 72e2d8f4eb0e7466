// Gradients of a bundle: sent from where they lie when they lie as in the arena, else gathered; all
// of them or none.
#include "ps/bundle.h"

#include <gtest/gtest.h>

#include "ps/wire.h"
#include "rpc/inproc_transport.h"

namespace muster::ps {
namespace {

using Floats = std::vector<float>;

class BundleTest : public testing::Test {
 protected:
  const ParamTable table_ = *ParamTable::Make(
      {{.name = "a", .shape = {3}}, {.name = "b", .shape = {2}}, {.name = "c", .shape = {1}}});
  const Partition partition_ = MakePartition(table_, 1);
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  Bundles bundles_{*transport_, table_, partition_};

  // Notes gradients in this order.
  std::optional<Bundles::Whole> Add(const std::vector<std::pair<ParamId, const float*>>& grads,
                                    int32_t replica = 0, int64_t step = 0) {
    std::optional<Bundles::Whole> whole;
    for (const auto& [param, grad] : grads) {
      EXPECT_FALSE(whole) << "more of a bundle that was whole";
      const auto size = static_cast<size_t>(table_.specs()[static_cast<size_t>(param)].size());
      whole = bundles_.Add(replica, step, 0, param, {grad, size}, /*priority=*/10 - param,
                           /*want_params=*/param == 0);
    }
    return whole;
  }
  // The elements of the parameters, and the sum of the padding's.
  Floats Sent(const Bundles::Whole& whole) {
    Floats all(33);
    CopyFloats(whole.payload, all);
    float padding = 0;
    for (const size_t from : {3u, 18u}) {
      for (size_t i = from; i < (from / 16 + 1) * 16; ++i) padding += all[i];
    }
    return {all[0], all[1], all[2], all[16], all[17], all[32], padding};
  }
};

TEST_F(BundleTest, GradientsInAnArenaAreBorrowed) {
  const auto arena = bundles_.Allocate();
  arena[0] = 1, arena[16] = 2, arena[32] = 3;
  const auto whole = Add({{1, &arena[16]}, {2, &arena[32]}, {0, &arena[0]}});
  ASSERT_TRUE(whole);
  EXPECT_EQ(Sent(*whole), (Floats{1, 0, 0, 2, 0, 3, 0}));
  EXPECT_EQ(whole->payload.slices().front().bytes.data(),
            reinterpret_cast<const std::byte*>(arena.get()));
  EXPECT_EQ(whole->priority, 8) << "of the most urgent";
  EXPECT_TRUE(whole->want_params);
}

TEST_F(BundleTest, GradientsFromElsewhereAreGathered) {
  const auto arena = bundles_.Allocate();
  const auto other = bundles_.Allocate();
  const Floats a = {1, 2, 3}, b = {4, 5}, c = {6};
  arena[16] = 7, arena[17] = 8, other[32] = 9;
  EXPECT_EQ(Sent(*Add({{0, a.data()}, {1, b.data()}, {2, c.data()}})),
            (Floats{1, 2, 3, 4, 5, 6, 0}));
  EXPECT_EQ(Sent(*Add({{0, a.data()}, {1, &arena[16]}, {2, &other[32]}})),
            (Floats{1, 2, 3, 7, 8, 9, 0}));
}

TEST_F(BundleTest, MemoryThatOnlyLooksLikeAnArenaIsGathered) {
  Floats neighbours(48, 5.0f);  // what lies between the parameters is somebody else's
  const auto whole = Add({{0, &neighbours[0]}, {1, &neighbours[16]}, {2, &neighbours[32]}});
  EXPECT_EQ(Sent(*whole), (Floats{5, 5, 5, 5, 5, 5, 0}));
}

TEST_F(BundleTest, ReplicasDoNotMix) {
  const Floats one = {1, 1, 1}, two = {2, 2, 2};
  EXPECT_FALSE(Add({{0, one.data()}, {1, one.data()}}, /*replica=*/1));
  EXPECT_EQ(Sent(*Add({{0, two.data()}, {1, two.data()}, {2, two.data()}}, /*replica=*/2)),
            (Floats{2, 2, 2, 2, 2, 2, 0}));
  EXPECT_EQ(Sent(*Add({{2, one.data()}}, /*replica=*/1)), (Floats{1, 1, 1, 1, 1, 1, 0}));
}

TEST_F(BundleTest, AParameterPushedTwiceCountsOnceWithItsLastGradient) {
  const Floats one = {1, 1, 1}, two = {2, 2, 2};
  const auto whole = Add({{0, one.data()}, {1, one.data()}, {0, two.data()}, {2, one.data()}});
  ASSERT_TRUE(whole);
  EXPECT_EQ(Sent(*whole), (Floats{2, 2, 2, 1, 1, 1, 0}));
}

TEST_F(BundleTest, WhatLacksIsNamed) {
  const Floats g = {1, 1, 1};
  EXPECT_TRUE(bundles_.CheckWhole(100).ok());
  EXPECT_FALSE(Add({{0, g.data()}, {2, g.data()}}, /*replica=*/3, /*step=*/7));
  EXPECT_TRUE(bundles_.CheckWhole(7).ok()) << "step 7 is not over";
  EXPECT_EQ(
      bundles_.CheckWhole(8).message(),
      "replica 3 did not push 'b' at step 7, but others of 'a' to 'c', which travel together; "
      "push every parameter at every step");
  EXPECT_TRUE(Add({{1, g.data()}}, /*replica=*/3, /*step=*/7));
  EXPECT_TRUE(bundles_.CheckWhole(8).ok());
}

}  // namespace
}  // namespace muster::ps
