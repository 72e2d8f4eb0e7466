// The shard's queues: a small slice does not wait for a big one, and each slice keeps its order.
#include "ps/shard.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "kernels/optimizer_math.h"
#include "ps/wire.h"
#include "telemetry/mutex.h"

namespace muster::ps {
namespace {

// Keeps the headers of what is sent, from any thread.
class SharedStream final : public rpc::Stream {
 public:
  absl::Status Send(rpc::Message message) override {
    MutexLock lock(mu_);
    sent_.push_back(message.header);
    changed_.NotifyAll();
    return absl::OkStatus();
  }
  void Close(absl::Status) override {}
  const rpc::Hello& peer() const override { return hello_; }
  size_t sent() {
    MutexLock lock(mu_);
    return sent_.size();
  }
  std::vector<rpc::Header> Await(size_t n) {
    MutexLock lock(mu_);
    while (sent_.size() < n) changed_.Wait(mu_);
    return sent_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<rpc::Header> sent_ ABSL_GUARDED_BY(mu_);
  const rpc::Hello hello_;
};

// Does nothing but tell that a quantum is being applied, on the owner thread.
class HookedOptimizer final : public Optimizer {
 public:
  explicit HookedOptimizer(std::function<void(size_t size)> hook) : hook_(std::move(hook)) {}
  const char* name() const override { return "hooked"; }
  std::vector<std::string> slot_names() const override { return {}; }
  float slot_init(int) const override { return 0; }
  void Apply(Stream&, const StepInfo&, std::span<const float> grad, std::span<const float>,
             std::span<float>, std::span<const std::span<float>>) const override {
    hook_(grad.size());
  }

 private:
  const std::function<void(size_t size)> hook_;
};

class ShardTest : public testing::Test {
 protected:
  ShardTest() {
    // Slices of about 25,000 elements, and one of 10.
    table_ =
        *ParamTable::Make({{.name = "big", .shape = {200'000}}, {.name = "small", .shape = {10}}});
    partition_ = MakePartition(table_, 1);
    small_ = partition_.of_param[1][0];
    EXPECT_GT(partition_.slices[0].size, kQuantum);
    context_.table = &table_;
    context_.partition = &partition_;
    context_.policy = policy_.get();
    context_.optimizer = &optimizer_;
    context_.schedule = &schedule_;
    context_.options = &options_;
    context_.events = &events_;
    context_.counters = &counters_;
    context_.cuts = &cuts_;
    shard_ = std::make_unique<Shard>(context_, std::vector<int32_t>{0, small_});
    shard_->Initialize();
    shard_->Start();
  }

  void Push(int32_t slice, int64_t step) {
    const auto size = static_cast<size_t>(partition_.slices[static_cast<size_t>(slice)].size);
    shard_->Post(peer_, PushMessage(slice, 0, step, true,
                                    rpc::Payload::Own(std::string(size * sizeof(float), '\0'))));
    shard_->Run(here_);
  }
  bool here_ = false;

  ParamTable table_;
  Partition partition_;
  int32_t small_ = 0;
  std::function<void(size_t)> hook_ = [](size_t) {};
  const std::unique_ptr<const ConsistencyPolicy> policy_ = *MakeConsistencyPolicy("BSP", 0);
  const HookedOptimizer optimizer_{[this](size_t size) { hook_(size); }};
  const Schedule schedule_ = [](int64_t) { return 1.0f; };
  const ServerOptions options_;
  const ServerEvents events_;
  ServerCounters counters_;
  CutWriter cuts_{table_, partition_, {}, 0, events_};
  BlockContext context_;
  const std::shared_ptr<SharedStream> stream_ = std::make_shared<SharedStream>();
  const std::shared_ptr<Peer> peer_ = std::make_shared<Peer>(stream_);
  std::unique_ptr<Shard> shard_;
};

// Cores that the calling thread may use.
int Cores() {
  cpu_set_t allowed;
  EXPECT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  return CPU_COUNT(&allowed);
}

TEST_F(ShardTest, AThreadWithACoreOfItsOwnStaysThere) {
  for (const int core :
       {-1, 0, CPU_SETSIZE}) {  // none is asked for, one that is there, one too many
    std::atomic<int> cores = 0;
    hook_ = [&](size_t) { cores = Cores(); };
    shard_ = std::make_unique<Shard>(context_, std::vector<int32_t>{0}, core);
    shard_->Initialize();
    shard_->Start();
    const size_t before = stream_->sent();
    Push(0, 0);
    stream_->Await(before + 2);
    EXPECT_EQ(cores, core == 0 ? 1 : Cores()) << core;
  }
}

TEST_F(ShardTest, ASmallSliceIsServedBetweenTheQuantaOfABigOne) {
  hook_ = [this](size_t size) {
    if (size == static_cast<size_t>(kQuantum))
      Push(small_, 0);  // arrives while the big one is in work
  };
  Push(0, 0);
  const std::vector<rpc::Header> sent = stream_->Await(4);
  EXPECT_EQ(sent[0].type, rpc::MessageType::kAck);
  EXPECT_EQ(sent[0].slice, static_cast<uint32_t>(small_));
  EXPECT_EQ(sent[1].type, rpc::MessageType::kParams);
  EXPECT_EQ(sent[1].slice, static_cast<uint32_t>(small_)) << "before the big one is done";
  EXPECT_EQ(sent[2].type, rpc::MessageType::kAck);
  EXPECT_EQ(sent[2].slice, 0u);
  EXPECT_EQ(sent[3].type, rpc::MessageType::kParams);
  EXPECT_EQ(sent[3].slice, 0u);
}

TEST_F(ShardTest, WhoBringsASmallSliceDoesItWhileTheThreadIsIdle) {
  here_ = true;
  const auto self = std::this_thread::get_id();
  std::atomic<bool> small_here = false, big_here = false;
  hook_ = [&](size_t size) {
    (size == 10 ? small_here : big_here) = std::this_thread::get_id() == self;
  };
  int64_t step = 0;
  for (; !small_here; ++step) {  // the thread may not have gone to sleep yet
    Push(small_, step);
    (void)stream_->Await(2 * static_cast<size_t>(step) + 2);
  }
  Push(0, 0);
  (void)stream_->Await(2 * static_cast<size_t>(step) + 2);
  EXPECT_FALSE(big_here) << "that would keep the bringer too long";
}

TEST_F(ShardTest, EachSliceKeepsItsOrder) {
  for (int64_t step = 0; step < 50; ++step) {
    here_ = step % 3 != 0;
    Push(0, step);
    Push(small_, step);
  }
  std::map<uint32_t, int64_t> next;
  for (const rpc::Header& header : stream_->Await(200)) {
    ASSERT_NE(header.type, rpc::MessageType::kError);
    if (header.type == rpc::MessageType::kAck) {
      ASSERT_EQ(header.step, next[header.slice]++);
    }
  }
  EXPECT_EQ(next[0], 50);
  EXPECT_EQ(next[static_cast<uint32_t>(small_)], 50);
}

TEST_F(ShardTest, StopsWithWorkInItsMailboxAndLetsGoOfIt) {
  const auto size = static_cast<size_t>(partition_.slices[0].size);
  auto gradient = std::make_shared<const std::vector<float>>(size, 0.0f);
  for (int64_t step = 0; step < 50; ++step) {
    shard_->Post(peer_,
                 PushMessage(0, 0, step, false,
                             rpc::Payload::Borrow(std::as_bytes(std::span(*gradient)), gradient)));
    shard_->Run(/*here=*/false);
  }
  shard_.reset();
  EXPECT_EQ(gradient.use_count(), 1);
}

}  // namespace
}  // namespace muster::ps
