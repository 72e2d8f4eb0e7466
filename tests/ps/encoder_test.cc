// What a worker pushes: plain gradients from where they lie, encoded ones from the replica's own
// memory, with the replica's own residual.
#include "ps/encoder.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "rpc/inproc_transport.h"

namespace muster::ps {
namespace {

class EncoderTest : public testing::Test {
 protected:
  // Half of the elements are sent, the larger ones.
  const std::shared_ptr<const Codec> codec_ = *MakeCodec("topk", 0.5);
  const ParamTable table_ = *ParamTable::Make({{.name = "a", .shape = {2}, .codec = codec_},
                                               {.name = "plain", .shape = {2}},
                                               {.name = "b", .shape = {2}, .codec = codec_}});
  const Partition partition_ = MakePartition(table_, 1);
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  Encoder encoder_{*transport_, table_, partition_};

  std::vector<float> Decoded(const rpc::Payload& payload) {
    const std::span<const std::byte> bytes = payload.slices().front().bytes;
    EXPECT_TRUE(codec_->Check(bytes, 2).ok());
    std::vector<float> out(2);
    codec_->Decode(bytes, 2, 0, out);
    return out;
  }
  std::vector<float> Sent(int32_t replica, int32_t slice, const std::vector<float>& gradient) {
    return Decoded(encoder_.Encode(replica, slice, gradient));
  }
};

using Floats = std::vector<float>;

TEST_F(EncoderTest, AGradientWithoutACodecIsBorrowed) {
  const Floats gradient = {1, 2};
  const rpc::Payload payload = encoder_.Encode(0, 1, gradient);
  EXPECT_EQ(payload.slices().front().bytes.data(),
            reinterpret_cast<const std::byte*>(gradient.data()));
  EXPECT_EQ(payload.size(), 8u);
}

TEST_F(EncoderTest, WhatWasNotSentGoesWithTheNextGradient) {
  EXPECT_EQ(Sent(0, 0, {3, 2}), (Floats{3, 0}));
  EXPECT_EQ(Sent(0, 0, {1, 2}), (Floats{0, 4}));
  EXPECT_EQ(Sent(0, 0, {1, 0}), (Floats{2, 0}));
}

TEST_F(EncoderTest, ResidualsBelongToTheReplicaAndTheSlice) {
  EXPECT_EQ(Sent(0, 0, {3, 2}), (Floats{3, 0}));
  EXPECT_EQ(Sent(1, 0, {0, 1}), (Floats{0, 1})) << "another replica";
  EXPECT_EQ(Sent(0, 2, {0, 1}), (Floats{0, 1})) << "another slice";
  EXPECT_EQ(Sent(0, 0, {0, 1}), (Floats{0, 3}));
}

TEST_F(EncoderTest, EncodingsStayUntilTheSameSliceOfTheReplicaIsEncodedAgain) {
  const rpc::Payload first = encoder_.Encode(0, 0, Floats{1, 0});
  const rpc::Payload slice = encoder_.Encode(0, 2, Floats{2, 0});
  const rpc::Payload replica = encoder_.Encode(1, 0, Floats{3, 0});
  EXPECT_EQ(Decoded(first), (Floats{1, 0}));
  EXPECT_EQ(Decoded(slice), (Floats{2, 0}));
  EXPECT_EQ(Decoded(replica), (Floats{3, 0}));
}

// Puts residuals of 7 where the encoder has them.
struct Other final : ReplicaEncoder {
  absl::Status BringResiduals(int32_t replica) override {
    EXPECT_EQ(replica, 1);
    for (const SliceEncoding& slice : encodings.slices) std::ranges::fill(slice.residual, 7.0f);
    return absl::OkStatus();
  }
  ReplicaEncodings encodings;
};

TEST_F(EncoderTest, WhatIsLeftToAnotherIsSentAsItMadeIt) {
  EXPECT_EQ(Sent(1, 0, {3, 2}), (Floats{3, 0}));
  Other other;
  other.encodings = encoder_.LeaveTo(other, 1);
  ASSERT_EQ(other.encodings.slices.size(), 2u) << "plain has no codec";
  const SliceEncoding& a = other.encodings.slices[0];
  const SliceEncoding& b = other.encodings.slices[1];
  EXPECT_EQ(a.param, 0);
  EXPECT_EQ(b.param, 2);
  EXPECT_EQ(b.begin, table_.offset(2));
  EXPECT_EQ(Floats(a.residual.begin(), a.residual.end()), (Floats{0, 2})) << "it goes on with it";
  Floats residual = {0, 0};
  codec_->Encode(Floats{0, 9}, residual, b.bytes);
  EXPECT_EQ(Sent(1, 2, {5, 5}), (Floats{0, 9}));
  EXPECT_EQ(Sent(0, 2, {5, 4}), (Floats{5, 0})) << "the other replica's are encoded here";

  for (const int32_t replica : {0, 1}) {
    const auto saved = encoder_.Residuals(replica);
    ASSERT_TRUE(saved.ok()) << saved.status();
    ASSERT_EQ(saved->size(), 2u);
    EXPECT_EQ((*saved)[1].weights, replica == 0 ? (Floats{0, 4}) : (Floats{7, 7}));
  }
}

}  // namespace
}  // namespace muster::ps
