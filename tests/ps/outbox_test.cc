// One burst of answers leaves in one write per worker.
#include "ps/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ps/wire.h"

namespace muster::ps {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Tells what happens to it: "ack 3" for a queued ACK of step 3, "write".
class Recorder final : public rpc::Stream {
 public:
  absl::Status Send(rpc::Message) override { return absl::InternalError("nothing is sent alone"); }
  absl::Status Queue(rpc::Message message) override {
    events.push_back("ack " + std::to_string(message.header.step));
    return absl::OkStatus();
  }
  void Flush() override { events.emplace_back("write"); }
  void Close(absl::Status) override {}
  const rpc::Hello& peer() const override { return hello_; }

  std::vector<std::string> events;

 private:
  const rpc::Hello hello_;
};

rpc::Message Ack(int64_t step) {
  rpc::Header push;
  push.step = step;
  return AckMessage(push, AckCode::kConsumed);
}

struct Worker {
  const std::shared_ptr<Recorder> stream = std::make_shared<Recorder>();
  Peer peer{stream};
};

TEST(OutboxTest, ABurstLeavesInOneWritePerWorker) {
  Worker a, b;
  Outbox outbox;
  outbox.Send(a.peer, Ack(1));
  outbox.Send(b.peer, Ack(2));
  outbox.Send(a.peer, Ack(3));
  EXPECT_THAT(a.stream->events, ElementsAre("ack 1", "ack 3"));
  outbox.Flush();
  EXPECT_THAT(a.stream->events, ElementsAre("ack 1", "ack 3", "write"));
  EXPECT_THAT(b.stream->events, ElementsAre("ack 2", "write"));
  outbox.Flush();
  EXPECT_THAT(b.stream->events, ElementsAre("ack 2", "write")) << "nothing was queued";
}

TEST(OutboxTest, LargeAnswersDoNotWait) {
  Worker a;
  Outbox outbox;
  const std::string parameters(128 << 10, 'w');
  rpc::Message message = Ack(1);
  message.payload = rpc::Payload::Own(parameters);
  outbox.Send(a.peer, std::move(message));
  EXPECT_THAT(a.stream->events, ElementsAre("ack 1", "write"));
}

TEST(OutboxTest, AnswersToAClosedStreamAreDropped) {
  Worker a;
  a.peer.closed = true;
  Outbox outbox;
  outbox.Send(a.peer, Ack(1));
  outbox.Flush();
  EXPECT_THAT(a.stream->events, IsEmpty());
}

}  // namespace
}  // namespace muster::ps
