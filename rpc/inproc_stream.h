// One end of an in-process stream, and the thread that delivers what no sender may. Private to the
// in-process transport.
//
// How rule 3 is kept. Every end has an inbox, and `draining_` says that someone is bound to empty
// it: only that one calls the handler, and whoever finds the end idle becomes it.
//  1. A sender that finds the peer's end idle drains it itself: a message costs a function call.
//  2. Unless this thread is within Send of that very end further up its stack (a handler that
//     answers what is just being sent): then, and after kInlineBudget messages (others must not
//     keep a sender from its work), the dispatcher goes on.
//  3. Close only marks and lets the dispatcher call OnClosed.
// The mutexes of ends and dispatcher are leaves: nothing is called or destroyed under them.
//
// How rule 2 is kept. A payload without owner gets the sender's loan as its owner; OnClosed waits
// for the loan's last copy.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "rpc/stream_end.h"
#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

class InprocEnd;

// Drains ends on its own thread, started when first needed. Thread-safe.
class InprocDispatcher {
 public:
  // REQUIRES: all ends are closed; not called on its own thread.
  ~InprocDispatcher();
  // Drains `end`, whose draining_ the caller has claimed.
  void Post(std::shared_ptr<InprocEnd> end);

 private:
  void Run();

  Mutex mu_;
  CondVar work_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<std::shared_ptr<InprocEnd>> ends_ ABSL_GUARDED_BY(mu_);
  std::thread thread_ ABSL_GUARDED_BY(mu_);
};

// Thread-safe. The dispatcher outlives every end that was started.
class InprocEnd : public Stream, public std::enable_shared_from_this<InprocEnd> {
 public:
  // Two ends of one stream, the second idle until Start. `set` is told when an end has called its
  // handler for the last time.
  static std::pair<std::shared_ptr<InprocEnd>, std::shared_ptr<InprocEnd>> MakePair(
      InprocDispatcher& dispatcher, const Hello& first, std::shared_ptr<StreamSet> first_set,
      const Hello& second, std::shared_ptr<StreamSet> second_set);

  // Attaches the handler and delivers what came before it.
  void Start(std::unique_ptr<StreamHandler> handler);
  // Instead of Start, on both ends: the stream was refused.
  void Abandon(absl::Status status);
  // Calls the handler for up to `budget` messages. REQUIRES: the caller claimed draining_.
  void Drain(int budget);

  absl::Status Send(Message message) override;
  void Close(absl::Status status) override;
  const Hello& peer() const override { return peer_; }

 private:
  InprocEnd(InprocDispatcher& dispatcher, Hello peer, std::shared_ptr<StreamSet> set)
      : dispatcher_(dispatcher), peer_(std::move(peer)), set_(std::move(set)) {}

  absl::Status Deliver(Message message);
  void PeerClosed(const absl::Status& status);
  void LoansReturned();
  // Claims draining_ when there is a handler and nobody drains.
  bool Claim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool SendingOnThisThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Finish();

  InprocDispatcher& dispatcher_;
  const Hello peer_;
  const std::shared_ptr<StreamSet> set_;

  Mutex mu_;
  std::shared_ptr<InprocEnd> other_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const void> loan_ ABSL_GUARDED_BY(mu_);
  std::deque<Message> inbox_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread::id> senders_ ABSL_GUARDED_BY(mu_);  // threads within Send of this end
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool loans_returned_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<StreamHandler>
      handler_;  // set by Start, then touched only by who holds draining_
};

}  // namespace muster::rpc
