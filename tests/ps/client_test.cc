// The client against a server that the test plays: credit, order, deadlines, errors, endings.
#include "ps/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <limits>

#include "ps/wire.h"
#include "telemetry/mutex.h"
#include "tests/ps/servers.h"

namespace muster::ps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kSize = 16 * 1024;  // elements of a parameter

// The server's end of a stream: keeps what comes.
class Recorder {
 public:
  rpc::Acceptor acceptor() {
    return [this](const rpc::Hello&, std::shared_ptr<rpc::Stream> stream)
               -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
      MutexLock lock(mu_);
      stream_ = std::move(stream);
      return std::make_unique<Handler>(*this);
    };
  }
  // Waits for the next message.
  rpc::Header Next() {
    MutexLock lock(mu_);
    while (headers_.empty()) changed_.Wait(mu_);
    const rpc::Header header = headers_.front();
    headers_.pop_front();
    return header;
  }
  bool empty() {
    MutexLock lock(mu_);
    return headers_.empty();
  }
  rpc::Stream& stream() {
    MutexLock lock(mu_);
    return *stream_;
  }

 private:
  class Handler final : public rpc::StreamHandler {
   public:
    explicit Handler(Recorder& recorder) : recorder_(recorder) {}
    void OnMessage(rpc::Message message) override {
      MutexLock lock(recorder_.mu_);
      recorder_.headers_.push_back(message.header);
      recorder_.changed_.NotifyAll();
    }
    void OnClosed(absl::Status) override {}

   private:
    Recorder& recorder_;
  };

  Mutex mu_;
  CondVar changed_;
  std::deque<rpc::Header> headers_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<rpc::Stream> stream_ ABSL_GUARDED_BY(mu_);
};

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    rpc::Hello self;
    self.role = "ps";
    listener_ = *transport_->Listen("inproc:0", self, recorder_.acceptor());
    gradient_.assign(kSize, 1.0f);
    arena_.assign(static_cast<size_t>(table_.arena_size()), 0.0f);
  }

  void Connect(ClientOptions options) {
    client_ = *Client::Connect(*transport_, {listener_->address()}, WorkerHello(0), table_,
                               partition_, options, *log_);
    client_->SetArena(arena_);
  }
  void Push(int32_t replica, int64_t step, ParamId param, bool want = false) {
    client_->Push(replica, step, param, gradient_, /*priority=*/param, want);
  }
  void Ack(const rpc::Header& push) {
    ASSERT_TRUE(recorder_.stream().Send(AckMessage(push, AckCode::kConsumed)).ok());
  }
  void SendParams(const rpc::Header& push, const std::vector<float>& values) {
    ASSERT_TRUE(
        recorder_.stream()
            .Send(ParamsMessage(static_cast<int32_t>(push.slice), 0, push.step + 1, push.step + 1,
                                rpc::Payload::Borrow(std::as_bytes(std::span(values)))))
            .ok());
  }

  // Four parameters of one 64 KiB slice each, which waits for no company: the slice's id is the
  // parameter's.
  const ParamTable table_ = *ParamTable::Make({{.name = "a", .shape = {kSize}},
                                               {.name = "b", .shape = {kSize}},
                                               {.name = "c", .shape = {kSize}},
                                               {.name = "d", .shape = {kSize}}});
  const Partition partition_ = MakePartition(table_, 1);
  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  Recorder recorder_;
  std::unique_ptr<rpc::Listener> listener_;
  std::vector<float> gradient_;
  std::vector<float> arena_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, CreditBoundsWhatIsInFlightAndUrgentSlicesOvertake) {
  Connect({.credit_bytes = 2 * kSize * int64_t{sizeof(float)}});
  for (const ParamId param : {3, 2, 1, 0}) Push(0, 0, param);
  const rpc::Header first = recorder_.Next(), second = recorder_.Next();
  EXPECT_THAT((std::vector{first.slice, second.slice}), ElementsAre(3, 2));
  EXPECT_TRUE(recorder_.empty()) << "beyond the credit";
  Ack(first);
  EXPECT_EQ(recorder_.Next().slice, 0u) << "what the next forward uses first goes first";
  EXPECT_TRUE(recorder_.empty());
  Ack(second);
  EXPECT_EQ(recorder_.Next().slice, 1u);
}

TEST_F(ClientTest, SmallParametersWaitForCompany) {
  const ParamTable table = *ParamTable::Make({{.name = "bias", .shape = {10}},
                                              {.name = "weight", .shape = {kSize}},
                                              {.name = "scale", .shape = {10}}});
  const Partition partition = MakePartition(table, 1);
  client_ = *Client::Connect(*transport_, {listener_->address()}, WorkerHello(0), table, partition,
                             {}, *log_);
  const std::vector<float> small(10, 1.0f);
  client_->Push(0, 0, 0, small, 0, false);
  EXPECT_TRUE(recorder_.empty());
  client_->Push(0, 0, 1, gradient_, 1, false);  // 64 KiB: now a write is worth it
  EXPECT_EQ(recorder_.Next().slice, 0u);
  EXPECT_EQ(recorder_.Next().slice, 1u);
  client_->Push(0, 0, 2, small, 2, false);
  EXPECT_TRUE(recorder_.empty());
  client_->Flush();  // the backward pass is over
  EXPECT_EQ(recorder_.Next().slice, 2u);
}

TEST_F(ClientTest, WhatWasFlushedButHadNoCreditGoesWithTheAck) {
  Connect({.credit_bytes = 1});
  Push(0, 0, 0);
  Push(0, 0, 1);
  client_->Flush();
  const rpc::Header first = recorder_.Next();
  EXPECT_TRUE(recorder_.empty());
  Ack(first);
  EXPECT_EQ(recorder_.Next().slice, 1u);
}

TEST_F(ClientTest, EarlierStepsGoFirstWhateverTheirPriority) {
  Connect({.credit_bytes = 1});
  Push(0, 0, 2);
  Push(0, 1, 0);
  Push(0, 0, 3);
  const rpc::Header first = recorder_.Next();
  Ack(first);
  const rpc::Header second = recorder_.Next();
  EXPECT_EQ(second.slice, 3u);
  Ack(second);
  EXPECT_EQ(recorder_.Next().step, 1);
}

TEST_F(ClientTest, ASliceLargerThanTheCreditMayGoAlone) {
  Connect({.credit_bytes = 1});
  Push(0, 0, 0);
  Push(0, 0, 1);
  const rpc::Header first = recorder_.Next();
  EXPECT_TRUE(recorder_.empty());
  Ack(first);
  recorder_.Next();
}

TEST_F(ClientTest, OneReplicasCreditIsNotSpentByAnother) {
  Connect({.credit_bytes = 1});
  Push(2, 0, 0);
  Push(0, 0, 0);
  EXPECT_EQ(recorder_.Next().replica, 2u);
  EXPECT_EQ(recorder_.Next().replica, 0u) << "replica 2 may be held until replica 0 has pushed";
}

TEST_F(ClientTest, ParametersLieInTheArenaWhenWaitReturns) {
  Connect({});
  const std::vector<float> values(kSize, 5.0f), unasked(kSize, 9.0f);
  Push(0, 0, 1, true);
  const rpc::Header push = recorder_.Next();
  SendParams(push, values);  // before the ACK: allowed
  Ack(push);
  EXPECT_TRUE(client_->Wait(1).ok());
  EXPECT_EQ(arena_[kSize], 5.0f);
  EXPECT_EQ(arena_[0], 0.0f);
  SendParams(push, unasked);
  // What nobody asked for is dropped: the trainer reads the arena now. The next round trip shows
  // that it was handled.
  Push(0, 1, 2);
  Ack(recorder_.Next());
  EXPECT_TRUE(client_->Wait(2).ok());
  EXPECT_EQ(arena_[kSize], 5.0f);
}

TEST_F(ClientTest, SaysWhatItHoldsAndAddsDeltasToThat) {
  const auto codec = *MakeCodec("topk", 1);
  const ParamTable table = *ParamTable::Make({{.name = "w", .shape = {2}, .pull_codec = codec}});
  const Partition partition = MakePartition(table, 1);
  client_ = *Client::Connect(*transport_, {listener_->address()}, WorkerHello(0), table, partition,
                             {}, *log_);
  std::vector<float> arenas[2] = {std::vector<float>(16), std::vector<float>(16)};
  const auto send_delta = [&](int64_t clock, const std::vector<float>& delta) {
    std::string encoded(codec->EncodedSize(2), '\0');
    std::vector<float> left(2);
    codec->Encode(delta, left, std::as_writable_bytes(std::span(encoded)));
    rpc::Message params = ParamsMessage(0, 0, clock, clock, rpc::Payload::Own(encoded));
    params.header.flags = kDelta;
    ASSERT_TRUE(recorder_.stream().Send(std::move(params)).ok());
  };
  const std::vector<float> gradient = {1, 1}, first = {1, 2};
  const auto push = [&](int64_t step) {
    client_->SetArena(arenas[(step + 1) % 2]);
    client_->Push(0, step, 0, gradient, 0, true);
    client_->Flush();
    const rpc::Header header = recorder_.Next();
    Ack(header);
    return header;
  };
  const rpc::Header at_0 = push(0);
  EXPECT_EQ(at_0.flags & kHoldsParams, 0) << "nothing was pulled";
  SendParams(at_0, first);
  ASSERT_TRUE(client_->Wait(1).ok());
  EXPECT_NE(push(1).flags & kHoldsParams, 0);
  send_delta(2, {0.5, -4});
  ASSERT_TRUE(client_->Wait(2).ok());
  EXPECT_EQ(arenas[0][0], 1.5f) << "in another arena than those it is added to";
  EXPECT_EQ(arenas[0][1], -2.0f);
  client_->Pull(0, 9, -1);
  send_delta(9, {1, 1});
  EXPECT_EQ(client_->Wait(9).message(),
            "parameter server 0 at " + listener_->address() +
                ": what 'w' changed by until clock 9 came, and that of clock 2 is here");
}

TEST_F(ClientTest, WaitReturnsOnlyWhenEarlierGradientsAreReadable) {
  Connect({.ack_timeout_ms = 1});
  Push(0, 0, 0);
  recorder_.Next();
  const absl::Status status = client_->Wait(1);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr("parameter server 0 at " + listener_->address()),
                             HasSubstr("slice 0, step 0, replica 0")));
}

TEST_F(ClientTest, AWaitThatIsTooLateMayBeCalledAgain) {
  Connect({.wait_timeout_ms = 20});
  client_->Pull(0, 0, -1);
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = client_->Wait(0);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("slices are missing"));
  }
}

TEST_F(ClientTest, AnErrorOfTheServerStays) {
  Connect({});
  Push(0, 0, 0, true);
  const rpc::Header push = recorder_.Next();
  ASSERT_TRUE(recorder_.stream().Send(ErrorMessage(push, absl::InvalidArgumentError("bad"))).ok());
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = client_->Wait(1);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "parameter server 0 at " + listener_->address() + ": bad");
  }
  Push(0, 1, 0);
  EXPECT_TRUE(recorder_.empty()) << "nothing is sent after an error";
}

TEST_F(ClientTest, AClosedStreamIsUnavailableAndNamesTheServer) {
  Connect({});
  client_->Pull(0, 0, -1);
  recorder_.Next();
  listener_.reset();
  const absl::Status status = client_->Wait(0);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("parameter server 0 at inproc:"));
}

TEST_F(ClientTest, MalformedAnswersFailTheClient) {
  Connect({});
  Push(0, 0, 0, true);
  const rpc::Header push = recorder_.Next();
  SendParams(push, std::vector<float>(3, 1.0f));
  EXPECT_THAT(std::string(client_->Wait(1).message()), HasSubstr("payload of 12 bytes, not 65536"));
}

TEST_F(ClientTest, CancelEndsAWait) {
  Connect({});
  client_->Pull(0, 0, -1);
  client_->Cancel(absl::CancelledError("the job stops"));
  EXPECT_EQ(client_->Wait(0).message(), "the job stops");
}

TEST_F(ClientTest, NobodyThereIsAnErrorThatNamesTheServer) {
  const auto client = Client::Connect(*transport_, {"inproc:nobody"}, WorkerHello(0), table_,
                                      partition_, {.connect_timeout_ms = 1}, *log_);
  ASSERT_FALSE(client.ok());
  EXPECT_THAT(std::string(client.status().message()),
              HasSubstr("parameter server 0 at inproc:nobody"));
}

TEST(ClientAndServerTest, ANonFiniteGradientReachesTheWorkerAndTheServersOwner) {
  const ParamTable table = *ParamTable::Make({{.name = "w", .shape = {3}}});
  std::vector<absl::Status> bad;
  ServerEvents events;
  events.on_bad_push = [&](const absl::Status& status) { bad.push_back(status); };
  Servers servers(table, {.servers = 1}, events);
  servers.Initialize();
  std::vector<float> arena(16);
  const std::vector<float> grad = {1, std::numeric_limits<float>::quiet_NaN(), 1};
  auto client = *ConnectWorker(servers, table, 0);
  client->SetArena(arena);
  client->Push(0, 0, 0, grad, 0, true);
  const absl::Status status = client->Wait(1);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the gradient of 'w'[0:3] at step 0 from replica 0"));
  client.reset();
  EXPECT_EQ(servers.server(0).stats().applies, 0);
  EXPECT_EQ(servers.server(0).stats().refused, 1);
  servers.Stop();  // joins the owner thread
  EXPECT_EQ(bad.size(), 1u);
}

TEST(ClientAndServerTest, AnotherServiceIsRefused) {
  const ParamTable table = *ParamTable::Make({{.name = "w", .shape = {3}}});
  Servers servers(table, {});
  servers.Initialize();
  class Nothing final : public rpc::StreamHandler {
    void OnMessage(rpc::Message) override {}
    void OnClosed(absl::Status) override {}
  };
  rpc::Hello hello = WorkerHello(0);
  hello.service = "control";
  const auto stream =
      servers.transport().Connect(servers.addresses()[0], hello, std::make_unique<Nothing>(), 1000);
  ASSERT_FALSE(stream.ok());
  EXPECT_THAT(std::string(stream.status().message()), HasSubstr("serves 'params', not 'control'"));
}

}  // namespace
}  // namespace muster::ps
