// Random operations by several threads on several streams, against what the rules promise.
#include <atomic>
#include <random>
#include <thread>

#include "tests/rpc/transport_suite.h"

namespace muster::rpc {
namespace {

// Checks one end: numbers of each sender thread rise by one, nothing after OnClosed, no two calls
// at once.
class CheckingHandler : public StreamHandler {
 public:
  CheckingHandler(int threads, std::atomic<int>& open) : next_(threads, 0), open_(open) { ++open_; }
  ~CheckingHandler() override {
    EXPECT_TRUE(closed_);
    --open_;
  }
  void OnMessage(Message message) override {
    EXPECT_FALSE(inside_.exchange(true));
    EXPECT_FALSE(closed_);
    EXPECT_EQ(message.header.step, next_[message.header.replica]++);
    if (reply_ != nullptr && message.header.slice == 1) (void)reply_->Send(std::move(message));
    inside_ = false;
  }
  void OnClosed(absl::Status) override {
    EXPECT_FALSE(inside_.exchange(true));
    EXPECT_FALSE(closed_);
    closed_ = true;
    reply_.reset();
    inside_ = false;
  }
  void ReplyOn(std::shared_ptr<Stream> stream) { reply_ = std::move(stream); }

 private:
  std::vector<int64_t> next_;
  std::atomic<int>& open_;
  std::shared_ptr<Stream> reply_;
  std::atomic<bool> inside_ = false;
  bool closed_ = false;
};

constexpr int kThreads = 3;
constexpr int kStreams = 4;

// Sends on all streams, closes each at a random point. Each thread numbers its messages per stream;
// slice = 1 asks for an answer, and only thread 0 asks, so that answers are numbered too.
void Hammer(std::vector<std::shared_ptr<Stream>> streams, int thread, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<int64_t> step(streams.size(), 0);
  for (int i = 0; i < 600; ++i) {
    const size_t s = rng() % streams.size();
    Message message = NumberedMessage(step[s], std::string(rng() % 300, 'z'));
    message.header.replica = thread;
    message.header.slice = thread == 0 ? 1 : 0;
    if (streams[s]->Send(std::move(message)).ok()) ++step[s];
    if (rng() % 400 == 0) streams[s]->Close();
  }
}

}  // namespace

TEST_P(TransportTest, RandomOperationsKeepTheRules) {
  const uint64_t first_seed = std::random_device()();
  for (uint64_t round = 0; round < 5; ++round) {
    const uint64_t seed = first_seed + 1000 * round;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RecordProperty("seed", std::to_string(seed));
    std::atomic<int> open = 0;
    auto listener = Listen(
        [&](const Hello&,
            std::shared_ptr<Stream> stream) -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
          auto handler = std::make_unique<CheckingHandler>(kThreads, open);
          handler->ReplyOn(std::move(stream));
          return handler;
        });
    std::vector<std::shared_ptr<Stream>> streams;
    for (int s = 0; s < kStreams; ++s) {
      auto stream =
          transport_->Connect(listener->address(), TestHello("worker", s),
                              std::make_unique<CheckingHandler>(kThreads, open), kTimeoutMs);
      ASSERT_TRUE(stream.ok()) << stream.status();
      streams.push_back(*std::move(stream));
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) threads.emplace_back(Hammer, streams, t, seed + t);
    // Streams are dropped, and the listener in some rounds destroyed, while others still send.
    streams.clear();
    if (round % 2 == 1) listener.reset();
    for (std::thread& thread : threads) thread.join();
    listener.reset();
    transport_.reset();
    EXPECT_EQ(open, 0) << "every handler was closed and destroyed";
    transport_ = GetParam().make();
  }
}

}  // namespace muster::rpc
