// Shard: some of a server's blocks, and who owns them. Everything that happens to a block comes
// through the shard's mailbox and is done by its owner, so weights need no lock. The owner is the
// shard's thread; while that has nothing to do, a thread that brings small slices becomes the owner
// until they are done, which saves the way to the other thread and back.
//
// Small slices (one quantum of 64 KiB at most) never wait for big ones: they have their own queue,
// which goes first, and which a big slice serves again after every quantum of its sum and its
// update. Each slice is either small or big for ever, so what is sent to one slice is done in the
// order it was sent.
//
// Thread-safe, except where noted. Destroying it finishes the message in work and drops the rest.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/device.h"
#include "ps/block.h"
#include "telemetry/mutex.h"

namespace muster::ps {

class Shard {
 public:
  // `context` lacks held, stream and yield, which are the shard's own. The thread stays on the
  // core-th of the cores that the process may use; -1, or where there are not as many: on any.
  Shard(BlockContext context, const std::vector<int32_t>& slices, int core = -1);
  ~Shard();

  // Before Start, one of the two, not thread-safe.
  void Initialize();
  absl::Status Restore(const Checkpoint& checkpoint);
  // Starts the owner thread.
  void Start();

  // A request that passed CheckRequest, of a slice of this shard. Is done at the next Run at
  // the latest.
  void Post(const std::shared_ptr<Peer>& peer, rpc::Message message);
  // Sees to what was posted: does it before it returns if that is small and nobody else is at it,
  // and `here`; else the shard's thread does.
  void Run(bool here);
  void PostCut(std::shared_ptr<Cut> cut);
  // Of the next step of all slices (ps/quorum.h).
  void PostDecision(const Decision& decision);
  // The peer's stream is closed: nothing of it comes any more.
  void PostDetach(std::shared_ptr<Peer> peer);

  size_t num_blocks() const { return blocks_.size(); }

 private:
  struct Request {
    std::shared_ptr<Peer> peer;
    rpc::Message message;
  };
  // Done by the thread when nothing big is in work.
  using Task = std::function<void()>;

  void RunThread();
  void RunSmall();
  void Execute(Request request);
  void PostTask(Task task);

  Outbox outbox_;
  HeldGradients held_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(/*threads=*/1);
  const std::unique_ptr<Stream> stream_ = cpu_->MakeStream();
  const BlockContext context_;
  const int core_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Block*> by_id_;  // by slice id; null: another shard's
  std::vector<bool> small_;    // by slice id

  Mutex mu_;
  CondVar work_;                            // for the thread
  bool owned_ ABSL_GUARDED_BY(mu_) = true;  // by a thread that will look for more before it lets go
  std::deque<Request> small_requests_ ABSL_GUARDED_BY(mu_);
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);  // requests of big slices, cuts, detaching
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace muster::ps
