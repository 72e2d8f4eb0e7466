// What passes for a message of the parameter servers, and what does not; floats out of any byte
// ranges.
#include "ps/wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace muster::ps {
namespace {

class WireTest : public testing::Test {
 protected:
  WireTest() {
    // Slices of 16384 and 476 elements; the first on server 0, the second on 1.
    table_ = *ParamTable::Make({{.name = "w", .shape = {16860}}});
    partition_ = MakePartition(table_, 2);
    EXPECT_EQ(partition_.slices.size(), 2u);
    EXPECT_EQ(partition_.server, (std::vector<int>{0, 1}));
  }

  rpc::Payload Floats(size_t n) {
    values_.assign(n, 1.0f);
    return rpc::Payload::Borrow(std::as_bytes(std::span(values_)));
  }
  std::string RequestError(const rpc::Message& message) {
    return std::string(CheckRequest(message, {&table_, &partition_, 0, 3}).message());
  }
  std::string AnswerError(const rpc::Message& message) {
    return std::string(CheckAnswer(message, table_, partition_, 0).message());
  }

  ParamTable table_;
  Partition partition_;
  std::vector<float> values_;
};

TEST_F(WireTest, GoodRequestsPass) {
  EXPECT_EQ(RequestError(PushMessage(0, 2, 7, true, Floats(16384))), "");
  EXPECT_EQ(RequestError(PullMessage(0, 0, 0, -1, false)), "");
  EXPECT_EQ(RequestError(PullMessage(0, 0, 9, 9, true)), "");
}

TEST_F(WireTest, EveryWrongFieldOfARequestIsNamed) {
  const auto push = [&] { return PushMessage(0, 2, 7, true, Floats(16384)); };
  rpc::Message m = push();
  m.header.magic = 0x1234;
  EXPECT_EQ(RequestError(m), "message with magic 0x1234");
  m = push();
  m.header.type = rpc::MessageType::kParams;
  EXPECT_EQ(RequestError(m),
            "a parameter server takes PUSH, PULL, TOTALS, ARRIVED and QUORUM, not type 6");
  m = push();
  m.header.type = static_cast<rpc::MessageType>(200);
  EXPECT_EQ(RequestError(m),
            "a parameter server takes PUSH, PULL, TOTALS, ARRIVED and QUORUM, not type 200");
  m = push();
  m.header.slice = 2;
  EXPECT_EQ(RequestError(m), "slice 2 of a job with 2 slices");
  m.header.slice = std::numeric_limits<uint32_t>::max();
  EXPECT_EQ(RequestError(m), "slice 4294967295 of a job with 2 slices");
  m = push();
  m.header.slice = 1;
  EXPECT_EQ(RequestError(m), "slice 1 lives on parameter server 1, this is 0");
  m = push();
  m.header.replica = 3;
  EXPECT_EQ(RequestError(m), "replica 3 of a job with 3 replicas");
  m.header.replica = std::numeric_limits<uint32_t>::max();
  EXPECT_NE(RequestError(m), "");
  m = push();
  m.header.step = -1;
  EXPECT_EQ(RequestError(m), "step -1 is out of range");
  m.header.step = std::numeric_limits<int64_t>::max();
  EXPECT_NE(RequestError(m), "");
  EXPECT_EQ(RequestError(PushMessage(0, 2, 7, true, Floats(16383))),
            "slice 0 has a payload of 65532 bytes, not 65536");
  EXPECT_NE(RequestError(PushMessage(0, 2, 7, true, Floats(16385))), "");
  EXPECT_NE(RequestError(PushMessage(0, 2, 7, true, {})), "");
  EXPECT_EQ(RequestError(PullMessage(0, 0, 0, -2, false)), "version -2 is out of range");
  m = PullMessage(0, 0, 0, -1, false);
  m.payload = Floats(1);
  EXPECT_EQ(RequestError(m), "slice 0 has a payload of 4 bytes, not 0");
}

TEST_F(WireTest, RowsAreOfTablesAndSlicesAreDense) {
  rpc::Message m = PushMessage(0, 2, 7, true, Floats(16384));
  m.header.rows = 3;
  EXPECT_EQ(RequestError(m), "slice 0 is dense, and 3 of its rows are named");
  m = ParamsMessage(0, 1, 6, 6, Floats(16384));
  m.header.rows = 1;
  EXPECT_EQ(AnswerError(m), "slice 0 is dense, and 1 of its rows are named");
}

TEST_F(WireTest, AnswersAreCheckedToo) {
  const rpc::Message push = PushMessage(0, 1, 5, false, Floats(16384));
  EXPECT_EQ(AnswerError(AckMessage(push.header, AckCode::kHeld)), "");
  EXPECT_EQ(AnswerError(ParamsMessage(0, 1, 6, 6, Floats(16384))), "");
  EXPECT_EQ(AnswerError(push), "a worker takes ACK, PARAMS, NORMS and QUORUM, not type 3");
  EXPECT_EQ(AnswerError(ParamsMessage(0, 1, 6, 6, Floats(1000))),
            "slice 0 has a payload of 4000 bytes, not 65536");
  EXPECT_EQ(AnswerError(ParamsMessage(1, 1, 6, 6, Floats(476))),
            "slice 1 lives on parameter server 1, this is 0");
}

TEST_F(WireTest, PulledParametersHaveTheSizeOfTheirEncoding) {
  const ParamTable table =
      *ParamTable::Make({{.name = "w", .shape = {100}, .pull_codec = *MakeCodec("fp16")}});
  const Partition partition = MakePartition(table, 1);
  const ParamTable deltas =
      *ParamTable::Make({{.name = "w", .shape = {100}, .pull_codec = *MakeCodec("topk", 0.1)}});
  const auto error = [&](const ParamTable& of, size_t bytes, uint8_t flags) {
    rpc::Message params = ParamsMessage(0, 0, 1, 1, rpc::Payload::Own(std::string(bytes, 'x')));
    params.header.flags = flags;
    return std::string(CheckAnswer(params, of, partition, 0).message());
  };
  EXPECT_EQ(error(table, 200, 0), "");
  EXPECT_EQ(error(table, 400, 0), "slice 0 has a payload of 400 bytes, not 200");
  EXPECT_EQ(error(table, 200, kDelta), "slice 0 does not travel as deltas, and this is one");
  EXPECT_EQ(error(deltas, 400, 0), "");
  EXPECT_EQ(error(deltas, 60, kDelta), "");
  EXPECT_EQ(error(deltas, 60, 0), "slice 0 has a payload of 60 bytes, not 400");
  EXPECT_EQ(error(deltas, 400, kDelta), "slice 0 has a payload of 400 bytes, not 60");
}

TEST_F(WireTest, NormsAndTotalsHaveTheSizeOfTheirRound) {
  // Four blocks; of each one sum of the gradient, or two of weights and direction.
  EXPECT_EQ(AnswerError(NormsMessage(0, 5, NormRound::kGradient, {1, 1, 1, 1})), "");
  EXPECT_EQ(AnswerError(NormsMessage(0, 5, NormRound::kTrust, {1, 2, 1, 2, 1, 2, 1, 2})), "");
  EXPECT_EQ(RequestError(TotalsMessage(0, 5, NormRound::kGradient, {1})), "");
  EXPECT_EQ(RequestError(TotalsMessage(0, 5, NormRound::kTrust, {1, 2})), "");
  EXPECT_EQ(RequestError(TotalsMessage(0, 5, NormRound::kTrust, {1})),
            "slice 0 has a payload of 8 bytes, not 16");
  EXPECT_EQ(AnswerError(NormsMessage(0, 5, NormRound::kGradient, {1, 2})),
            "slice 0 has a payload of 16 bytes, not 32");
  rpc::Message m = TotalsMessage(0, 5, NormRound::kGradient, {1});
  m.payload = rpc::Payload::Own("1234567");
  EXPECT_EQ(RequestError(m), "slice 0 has a payload of 7 bytes, not 8");
  m.header.code = 2;
  EXPECT_EQ(RequestError(m), "norms of round 2; there are 2");
  EXPECT_EQ(RequestError(TotalsMessage(1, 5, NormRound::kGradient, {1})),
            "slice 1 lives on parameter server 1, this is 0");
  EXPECT_NE(RequestError(NormsMessage(0, 5, NormRound::kGradient, {1})), "");
  EXPECT_NE(AnswerError(TotalsMessage(0, 5, NormRound::kGradient, {1})), "");

  const ParamTable statistics =
      *ParamTable::Make({{.name = "mean", .shape = {3}, .kind = ParamSpec::Kind::kStatistic}});
  const Partition partition = MakePartition(statistics, 1);
  EXPECT_EQ(
      CheckRequest(TotalsMessage(0, 5, NormRound::kGradient, {}), {&statistics, &partition, 0, 3})
          .message(),
      "slice 0 is of statistics, which have no norms");
}

TEST_F(WireTest, AQuorumCountsAsManyReplicasAsAStepDoes) {
  const auto error = [&](const rpc::Message& message, int backups = 1) {
    return std::string(CheckRequest(message, {&table_, &partition_, 0, 3, backups}).message());
  };
  const Decision decision{7, {true, false, true}};
  const rpc::Message quorum = QuorumMessage(0, decision);
  EXPECT_EQ(error(quorum), "");
  EXPECT_EQ(AnswerError(quorum), "");
  EXPECT_EQ(DecisionOf(quorum, 3).step, 7);
  EXPECT_EQ(DecisionOf(quorum, 3).counted, decision.counted);
  EXPECT_EQ(error(ArrivedMessage(2, 7)), "");

  EXPECT_EQ(error(QuorumMessage(0, {7, {true, true, true}})),
            "step 7 is said to count 3 of 3 replicas");
  EXPECT_EQ(error(QuorumMessage(0, {7, {true, false, false, true}})),
            "step 7 is said to count 2 of 3 replicas")
      << "one of them does not exist";
  EXPECT_EQ(error(QuorumMessage(0, {7, ReplicaSet(9, true)})),
            "slice 0 has a payload of 2 bytes, not 1");
  EXPECT_EQ(error(QuorumMessage(1, decision)), "slice 1 lives on parameter server 1, this is 0");
  EXPECT_EQ(error(quorum, /*backups=*/0), "a step counts all replicas here: there is no quorum");
  EXPECT_NE(error(ArrivedMessage(2, 7), /*backups=*/0), "");
  EXPECT_NE(error(ArrivedMessage(3, 7)), "");
  rpc::Message arrived = ArrivedMessage(2, 7);
  arrived.payload = rpc::Payload::Own("x");
  EXPECT_EQ(error(arrived), "slice 0 has a payload of 1 bytes, not 0");
  // Server 1's slice, and slice 0's server is another.
  arrived = ArrivedMessage(2, 7);
  arrived.header.slice = 1;
  EXPECT_EQ(std::string(CheckRequest(arrived, {&table_, &partition_, 1, 3, 1}).message()),
            "slice 1 is asked for the quorum; slice 0's server decides");
  rpc::Message large = quorum;
  large.payload = rpc::Payload::Own(std::string(8193, 'x'));
  EXPECT_EQ(AnswerError(large), "a quorum of 8193 bytes");
}

TEST_F(WireTest, AnAckEchoesThePush) {
  const rpc::Header h =
      AckMessage(PushMessage(1, 2, 9, true, {}).header, AckCode::kRepeated).header;
  EXPECT_EQ(h.type, rpc::MessageType::kAck);
  EXPECT_EQ(h.slice, 1u);
  EXPECT_EQ(h.replica, 2u);
  EXPECT_EQ(h.step, 9);
  EXPECT_EQ(h.code, static_cast<uint16_t>(AckCode::kRepeated));
}

TEST_F(WireTest, ErrorsCarryTheirStatusAndBoundItsText) {
  const rpc::Header push = PushMessage(1, 2, 9, true, {}).header;
  const absl::Status status = absl::OutOfRangeError("too late");
  EXPECT_EQ(StatusOf(ErrorMessage(push, status)), status);
  rpc::Message hostile = ErrorMessage(push, absl::InternalError(std::string(1 << 20, 'x')));
  hostile.header.code = 0;
  EXPECT_EQ(StatusOf(hostile).code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(StatusOf(hostile).message().size(), 4096u);
  hostile.header.code = 999;
  EXPECT_EQ(StatusOf(hostile).code(), absl::StatusCode::kUnknown);
}

// Cuts `bytes` into ranges of random length, empty ones included.
rpc::Payload RandomRanges(std::span<const std::byte> bytes, std::mt19937& rng, size_t longest) {
  rpc::Payload payload;
  while (!bytes.empty()) {
    const size_t n = std::min<size_t>(bytes.size(), rng() % (longest + 1));
    payload.Append({bytes.first(n), nullptr});
    bytes = bytes.subspan(n);
  }
  return payload;
}

TEST(ForEachRunTest, GivesAllFloatsInOrderHoweverTheBytesAreCut) {
  const uint32_t seed = 42;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int round = 0; round < 500; ++round) {
    std::vector<float> values(rng() % 200);
    for (float& x : values) x = static_cast<float>(rng());
    const rpc::Payload payload =
        RandomRanges(std::as_bytes(std::span(values)), rng, round % 2 == 0 ? 7 : 120);
    const int64_t max_run = 1 + static_cast<int64_t>(rng() % 20);
    std::vector<float> out(values.size()), copied(values.size());
    int64_t next = 0;
    EXPECT_TRUE(ForEachRun(payload, max_run, [&](int64_t begin, const std::byte* src, int64_t n) {
      EXPECT_EQ(begin, next);
      EXPECT_GE(n, 1);
      EXPECT_LE(n, max_run);
      std::memcpy(out.data() + begin, src, static_cast<size_t>(n) * sizeof(float));
      next = begin + n;
      return true;
    }));
    EXPECT_EQ(next, static_cast<int64_t>(values.size()));
    EXPECT_EQ(out, values);
    CopyFloats(payload, copied);
    EXPECT_EQ(copied, values);
  }
}

// What is large is copied past the caches.
TEST(CopyFloatsTest, OfALargePayloadEveryFloatArrivesWhereverItsRangesAreCut) {
  const uint32_t seed = 42;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int round = 0; round < 20; ++round) {
    std::vector<float> values((1 << 18) + rng() % 1000);
    for (float& x : values) x = static_cast<float>(1 + rng() % 1'000'000);
    const rpc::Payload payload =
        RandomRanges(std::as_bytes(std::span(values)), rng, round % 2 == 0 ? 300 : 200'000);
    const size_t shift = rng() % 17;
    std::vector<float> out(values.size() + 17);
    CopyFloats(payload, std::span(out).subspan(shift, values.size()));
    EXPECT_TRUE(std::ranges::equal(std::span(out).subspan(shift, values.size()), values));
    EXPECT_EQ(std::ranges::count(out, 0.0f), 17) << "nothing beside them is written";
  }
}

TEST(ForEachRunTest, StopsWhenToldTo) {
  const std::vector<float> values(10, 1.0f);
  int calls = 0;
  EXPECT_FALSE(ForEachRun(rpc::Payload::Borrow(std::as_bytes(std::span(values))), 2,
                          [&](int64_t, const std::byte*, int64_t) { return ++calls < 3; }));
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace muster::ps
