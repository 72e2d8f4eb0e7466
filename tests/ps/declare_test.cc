// Servers without a master: the first declaration sets them up, an equal one is welcome, anything
// else is refused and changes nothing.
#include "ps/declare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "ps/client.h"
#include "ps/declared_server.h"
#include "ps/param_message.h"
#include "ps/wire.h"
#include "rpc/inproc_transport.h"
#include "telemetry/mutex.h"

namespace muster::ps {
namespace {

using testing::HasSubstr;

constexpr int64_t kTimeoutMs = 30'000;

class DeclareTest : public testing::Test {
 protected:
  DeclareTest() {
    DeclaredServerOptions options;
    Stage* stage = options.training.add_schedule();
    stage->set_steps(1);
    stage->set_learning_rate(1);
    options.memory_bytes = 1 << 20;
    for (int i = 0; i < 2; ++i) {
      servers_.push_back(std::make_unique<DeclaredServer>(options, *log_));
      rpc::Hello self;
      self.role = "ps";
      listeners_.push_back(*transport_->Listen("inproc:0", self, servers_.back()->acceptor()));
      addresses_.push_back(listeners_.back()->address());
    }
  }

  absl::Status Declare(const ParamTable& table, int replicas = 1) {
    return ps::Declare(*transport_, addresses_, rpc::Hello(), table, replicas, kTimeoutMs);
  }
  absl::StatusOr<std::unique_ptr<Client>> Connect() {
    return Client::Connect(*transport_, addresses_, rpc::Hello(), table_, partition_, {}, *log_);
  }

  const ParamTable table_ =
      *ParamTable::Make({{.name = "w", .shape = {2000}}, {.name = "b", .shape = {3}}});
  const Partition partition_ = MakePartition(table_, 2);
  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  std::vector<std::unique_ptr<DeclaredServer>> servers_;
  std::vector<std::unique_ptr<rpc::Listener>> listeners_;
  std::vector<std::string> addresses_;
};

TEST_F(DeclareTest, NobodyConnectsBeforeTheParametersAreDeclared) {
  EXPECT_EQ(Connect().status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Declare(table_).ok());
  EXPECT_TRUE(Connect().ok());
}

TEST_F(DeclareTest, TheSameAgainIsWelcomeAnythingElseIsRefused) {
  ASSERT_TRUE(Declare(table_).ok());
  EXPECT_TRUE(Declare(table_).ok());
  const ParamTable other = *ParamTable::Make({{.name = "w", .shape = {6}}});
  for (const absl::Status& status : {Declare(other), Declare(table_, 2)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("parameter server 0 at inproc:"));
  }
  std::swap(addresses_[0], addresses_[1]);
  EXPECT_EQ(Declare(table_).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DeclareTest, AModelThatDoesNotFitIsRefusedAndAnotherMayCome) {
  const ParamTable large = *ParamTable::Make({{.name = "w", .shape = {1 << 20}}});
  EXPECT_EQ(Declare(large).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Declare(table_).ok());
}

// A program that lost its connection, or was run again, goes on with what Clock says, and may
// repeat the step before.
TEST_F(DeclareTest, RepeatedStepsCountOnce) {
  std::vector<float> weights(static_cast<size_t>(table_.arena_size()));
  const std::vector<float> w(2000, 5.0f), b = {6, 7, 8};
  // A program that begins with step `clock` - `repeat` and stops after pushing `b` of step `last`,
  // `w` being still to come; returns its clock.
  const auto run = [&](int64_t repeat, int64_t last) -> int64_t {
    EXPECT_TRUE(Declare(table_).ok());
    const auto client = *Connect();
    client->SetArena(weights);
    const int64_t clock = *client->Clock(0);
    client->Pull(0, clock, -1);
    EXPECT_TRUE(client->Wait(clock).ok());
    for (int64_t step = clock - repeat; step <= last; ++step) {
      client->Push(0, step, 1, b, 0, step < last);
      if (step < last) client->Push(0, step, 0, w, 0, true);
      const absl::Status status = client->Wait(step + 1);
      EXPECT_TRUE(status.ok()) << status;
    }
    return clock;
  };
  EXPECT_EQ(run(0, 2), 0);
  EXPECT_EQ(run(0, 3), 2) << "half of step 2 was pushed";
  EXPECT_EQ(weights[4], -15);
  EXPECT_EQ(run(1, 4), 3);
  EXPECT_EQ(weights[4], -20);
  EXPECT_EQ(weights[static_cast<size_t>(table_.offset(1))], -24);
}

// What a server answers to a message on a "declare" stream.
class Answers final : public rpc::StreamHandler {
 public:
  struct State {
    Mutex mu;
    CondVar changed;
    int accepted ABSL_GUARDED_BY(mu) = 0;
    int refused ABSL_GUARDED_BY(mu) = 0;
  };
  explicit Answers(std::shared_ptr<State> state) : state_(std::move(state)) {}
  void OnMessage(rpc::Message message) override {
    MutexLock lock(state_->mu);
    ++(message.header.type == rpc::MessageType::kError ? state_->refused : state_->accepted);
    state_->changed.NotifyAll();
  }
  void OnClosed(absl::Status) override {}

 private:
  const std::shared_ptr<State> state_;
};

// A declaration with a few fields that no program would write.
Declaration Nonsense(std::mt19937& rng) {
  const auto pick = [&rng](std::initializer_list<int64_t> values) {
    return values.begin()[rng() % values.size()];
  };
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  Declaration out;
  for (auto n = rng() % 4; n > 0; --n) {
    ParamSpecMessage* param = out.add_params();
    param->set_name(rng() % 4 == 0 ? "" : "p" + std::to_string(rng() % 2));
    for (auto d = rng() % 3; d > 0; --d) param->add_shape(pick({1, 7, 0, -1, 1 << 30, kMax}));
    param->set_kind(static_cast<int32_t>(pick({0, 1, 2, -1, 1 << 30})));
    param->mutable_init()->set_kind(static_cast<int32_t>(pick({0, 3, 4, -1})));
  }
  out.set_num_servers(static_cast<int32_t>(pick({1, 2, 0, -1, 1 << 30})));
  out.set_server(static_cast<int32_t>(pick({0, 1, -1, 1 << 30})));
  out.set_num_replicas(static_cast<int32_t>(pick({0, -1, 1 << 30})));
  return out;
}

TEST_F(DeclareTest, NonsenseIsRefusedAndTheServerLives) {
  const uint32_t seed = 7;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  rpc::Hello hello;
  hello.service = "declare";
  auto state = std::make_shared<Answers::State>();
  const auto stream =
      *transport_->Connect(addresses_[0], hello, std::make_unique<Answers>(state), kTimeoutMs);
  constexpr int kMessages = 3000;
  for (int i = 0; i < kMessages; ++i) {
    std::string text = Nonsense(rng).SerializeAsString();
    if (rng() % 3 == 0 && !text.empty()) text[rng() % text.size()] ^= static_cast<char>(rng());
    rpc::Message message;
    message.header.type = rng() % 8 == 0 ? rpc::MessageType::kPush : rpc::MessageType::kControl;
    message.payload = rpc::Payload::Own(text);
    ASSERT_TRUE(stream->Send(std::move(message)).ok());
  }
  {
    MutexLock lock(state->mu);
    while (state->refused + state->accepted < kMessages) state->changed.Wait(state->mu);
    // A flipped bit may make a number of replicas that is one.
    EXPECT_GE(state->refused, kMessages - 100);
  }
  // Unless nonsense set it up, the server still takes parameters.
  EXPECT_NE(Declare(table_).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace muster::ps
