#include "ps/shard.h"

#include <sched.h>

#include <limits>
#include <utility>

#include "kernels/optimizer_math.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

HeldGradients MakeHeld(const BlockContext& context, Outbox& outbox) {
  const ServerOptions& options = *context.options;
  if (context.policy->backups() > 0) {
    // A slice holds one gradient of each replica, all of them before a step is decided: an ACK that
    // waited for room would wait for ever.
    constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
    return HeldGradients(kNoLimit, kNoLimit, outbox);
  }
  const int64_t budget = options.held_bytes_budget / options.num_shards;
  return HeldGradients(budget, budget + options.client_credit_bytes * options.num_replicas, outbox);
}

BlockContext WithOwn(BlockContext context, HeldGradients* held, Outbox* outbox, Stream* stream,
                     std::function<void()> yield) {
  context.held = held;
  context.outbox = outbox;
  context.stream = stream;
  context.yield = std::move(yield);
  return context;
}

// Keeps the calling thread on the index-th core that it may use, if it can.
void StayOnCore(int index) {
  cpu_set_t allowed;
  if (index < 0 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &allowed) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    (void)sched_setaffinity(0, sizeof(one), &one);
    return;
  }
}

}  // namespace

Shard::Shard(BlockContext context, const std::vector<int32_t>& slices, int core)
    : held_(MakeHeld(context, outbox_)),
      context_(
          WithOwn(std::move(context), &held_, &outbox_, stream_.get(), [this] { RunSmall(); })),
      core_(core),
      by_id_(context_.partition->slices.size(), nullptr),
      small_(context_.partition->slices.size(), false) {
  for (const int32_t id : slices) {
    const auto at = static_cast<size_t>(id);
    blocks_.push_back(MakeBlock(context_, id));
    by_id_[at] = blocks_.back().get();
    small_[at] = context_.partition->slices[at].size <= kQuantum;
  }
}

Shard::~Shard() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  work_.NotifyOne();
  if (thread_.joinable()) thread_.join();
}

void Shard::Initialize() {
  for (const auto& block : blocks_) block->Initialize();
}

absl::Status Shard::Restore(const Checkpoint& checkpoint) {
  for (const auto& block : blocks_) RETURN_IF_ERROR(block->Restore(checkpoint));
  return absl::OkStatus();
}

void Shard::Start() {
  thread_ = std::thread([this] { RunThread(); });
}

void Shard::Post(const std::shared_ptr<Peer>& peer, rpc::Message message) {
  CHECK(by_id_[message.header.slice] != nullptr);
  if (!small_[message.header.slice]) {
    // std::function wants its captures copyable; a payload's copy copies no bytes.
    PostTask([this, request = Request{peer, std::move(message)}]() mutable {
      Execute(std::move(request));
    });
    return;
  }
  MutexLock lock(mu_);
  small_requests_.push_back({peer, std::move(message)});
}

void Shard::Run(bool here) {
  {
    MutexLock lock(mu_);
    if (owned_ || (small_requests_.empty() && tasks_.empty())) return;
    if (!here || !tasks_.empty() || stopping_) return work_.NotifyOne();
    owned_ = true;
  }
  bool more = true;
  while (more) {
    RunSmall();
    MutexLock lock(mu_);
    more = !small_requests_.empty() && !stopping_;
    owned_ = more;
    if (!more && !tasks_.empty()) work_.NotifyOne();
  }
}

void Shard::PostCut(std::shared_ptr<Cut> cut) {
  PostTask([this, cut = std::move(cut)] {
    for (const auto& block : blocks_) block->OnCut(cut);
  });
}

void Shard::PostDecision(const Decision& decision) {
  PostTask([this, decision] {
    for (const auto& block : blocks_) block->OnDecision(decision);
  });
}

void Shard::PostDetach(std::shared_ptr<Peer> peer) {
  PostTask([this, peer = std::move(peer)] {
    for (const auto& block : blocks_) block->Detach(*peer);
  });
}

void Shard::PostTask(Task task) {
  {
    MutexLock lock(mu_);
    tasks_.push_back(std::move(task));
  }
  work_.NotifyOne();
}

void Shard::RunThread() {
  StayOnCore(core_);
  while (true) {
    Task task;
    {
      MutexLock lock(mu_);
      owned_ = false;
      while (!stopping_ && (owned_ || (small_requests_.empty() && tasks_.empty()))) work_.Wait(mu_);
      if (stopping_) return;
      owned_ = true;
      if (small_requests_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
    }
    if (task) {
      task();
      outbox_.Flush();
    }
    RunSmall();
  }
}

void Shard::RunSmall() {
  while (true) {
    Request request;
    {
      MutexLock lock(mu_);
      if (small_requests_.empty() || stopping_) break;
      request = std::move(small_requests_.front());
      small_requests_.pop_front();
    }
    Execute(std::move(request));
  }
  outbox_.Flush();
}

void Shard::Execute(Request request) {
  Block& block = *by_id_[request.message.header.slice];
  switch (request.message.header.type) {
    case rpc::MessageType::kPush:
      return block.OnPush(request.peer, std::move(request.message));
    case rpc::MessageType::kTotals:
      return block.OnTotals(request.peer, request.message);
    default:
      return block.OnPull(request.peer, request.message);
  }
}

}  // namespace muster::ps
