#include "rpc/inproc_stream.h"

#include <algorithm>
#include <utility>

#include "telemetry/check.h"

namespace muster::rpc {
namespace {

constexpr int kInlineBudget = 32;
constexpr int kDispatcherBudget = 64;

}  // namespace

InprocDispatcher::~InprocDispatcher() {
  std::thread thread;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    work_.NotifyAll();
    thread = std::move(thread_);
  }
  if (!thread.joinable()) return;
  CHECK(thread.get_id() != std::this_thread::get_id());
  thread.join();
}

void InprocDispatcher::Post(std::shared_ptr<InprocEnd> end) {
  MutexLock lock(mu_);
  ends_.push_back(std::move(end));
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  work_.NotifyOne();
}

void InprocDispatcher::Run() {
  for (;;) {
    std::shared_ptr<InprocEnd> end;
    {
      MutexLock lock(mu_);
      while (ends_.empty() && !stopping_) work_.Wait(mu_);
      if (ends_.empty()) return;
      end = std::move(ends_.front());
      ends_.pop_front();
    }
    end->Drain(kDispatcherBudget);
  }
}

std::pair<std::shared_ptr<InprocEnd>, std::shared_ptr<InprocEnd>> InprocEnd::MakePair(
    InprocDispatcher& dispatcher, const Hello& first, std::shared_ptr<StreamSet> first_set,
    const Hello& second, std::shared_ptr<StreamSet> second_set) {
  std::shared_ptr<InprocEnd> a(new InprocEnd(dispatcher, second, std::move(first_set)));
  std::shared_ptr<InprocEnd> b(new InprocEnd(dispatcher, first, std::move(second_set)));
  const auto join = [](const std::shared_ptr<InprocEnd>& end, std::shared_ptr<InprocEnd> other) {
    MutexLock lock(end->mu_);
    end->other_ = std::move(other);
    end->loan_ =
        std::shared_ptr<const void>(end.get(), [end](const void*) { end->LoansReturned(); });
  };
  join(a, b);
  join(b, a);
  return {a, b};
}

void InprocEnd::Start(std::unique_ptr<StreamHandler> handler) {
  bool post = false;
  {
    MutexLock lock(mu_);
    handler_ = std::move(handler);
    started_ = true;
    if (!inbox_.empty() || closed_) post = Claim();
  }
  if (post) dispatcher_.Post(shared_from_this());
}

void InprocEnd::Abandon(absl::Status status) {
  std::shared_ptr<InprocEnd> other;
  std::shared_ptr<const void> loan;
  std::deque<Message> dropped;
  MutexLock lock(mu_);
  if (!closed_) closed_ = std::move(status);
  other = std::move(other_);
  loan = std::move(loan_);
  dropped.swap(inbox_);
}

absl::Status InprocEnd::Send(Message message) {
  RETURN_IF_ERROR(CheckSendable(message));
  message.header.payload_bytes = message.payload.size();
  const std::thread::id self = std::this_thread::get_id();
  std::shared_ptr<InprocEnd> other;
  {
    MutexLock lock(mu_);
    if (closed_) return SendAfterClose(*closed_);
    message.payload.Adopt(loan_);
    other = other_;
    senders_.push_back(self);
  }
  absl::Status status = other->Deliver(std::move(message));
  MutexLock lock(mu_);
  senders_.erase(std::find(senders_.begin(), senders_.end(), self));
  return status;
}

absl::Status InprocEnd::Deliver(Message message) {
  bool drain_here = false;
  {
    MutexLock lock(mu_);
    if (closed_) return SendAfterClose(*closed_);
    inbox_.push_back(std::move(message));
    if (!Claim()) return absl::OkStatus();
    drain_here = !SendingOnThisThread();
  }
  if (drain_here) {
    Drain(kInlineBudget);
  } else {
    dispatcher_.Post(shared_from_this());
  }
  return absl::OkStatus();
}

void InprocEnd::Drain(int budget) {
  bool any = false;  // since the last OnBatchEnd
  for (;;) {
    Message message;
    bool batch_ends = false;
    {
      MutexLock lock(mu_);
      batch_ends = any && (inbox_.empty() || budget == 0);
      if (inbox_.empty() && !batch_ends) {
        if (closed_ && loans_returned_) break;
        draining_ = false;
        return;
      }
      if (!batch_ends && budget-- > 0) {
        message = std::move(inbox_.front());
        inbox_.pop_front();
      }
    }
    if (batch_ends) {
      handler_->OnBatchEnd();
    } else if (budget < 0) {
      dispatcher_.Post(shared_from_this());
      return;
    } else {
      handler_->OnMessage(std::move(message));
    }
    any = !batch_ends;
  }
  Finish();
}

void InprocEnd::Finish() {
  // draining_ stays claimed: nobody calls the handler again.
  std::shared_ptr<InprocEnd> other;
  absl::Status status;
  {
    MutexLock lock(mu_);
    other = std::move(other_);
    status = *closed_;
  }
  handler_->OnClosed(std::move(status));
  handler_.reset();
  set_->Remove(this);
}

void InprocEnd::Close(absl::Status status) {
  std::shared_ptr<InprocEnd> other;
  std::shared_ptr<const void> loan;
  std::deque<Message> dropped;
  bool post = false;
  {
    MutexLock lock(mu_);
    if (closed_) return;
    closed_ = status;
    other = other_;
    loan = std::move(loan_);
    dropped.swap(inbox_);
    post = Claim();
  }
  other->PeerClosed(status);
  if (post) dispatcher_.Post(shared_from_this());
}

void InprocEnd::PeerClosed(const absl::Status& status) {
  std::shared_ptr<const void> loan;
  bool post = false;
  {
    MutexLock lock(mu_);
    if (closed_) return;
    closed_ = status;
    loan = std::move(loan_);
    post = Claim();
  }
  if (post) dispatcher_.Post(shared_from_this());
}

void InprocEnd::LoansReturned() {
  bool post = false;
  {
    MutexLock lock(mu_);
    loans_returned_ = true;
    post = Claim();
  }
  if (post) dispatcher_.Post(shared_from_this());
}

bool InprocEnd::Claim() {
  if (!started_ || draining_) return false;
  draining_ = true;
  return true;
}

bool InprocEnd::SendingOnThisThread() {
  return std::find(senders_.begin(), senders_.end(), std::this_thread::get_id()) != senders_.end();
}

}  // namespace muster::rpc
