#include "tests/harness/delay_transport.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "rpc/stream_end.h"
#include "telemetry/mutex.h"

namespace muster::harness {
namespace {

using Clock = std::chrono::steady_clock;

// What is held back of one direction of one stream.
class Held {
 public:
  Held(std::shared_ptr<rpc::Stream> inner, uint64_t seed) : inner_(std::move(inner)), rng_(seed) {}

  // Draws when the next event may go: not before those ahead of it.
  Clock::time_point Draw(const DelayOptions& options) {
    MutexLock lock(mu_);
    const uint64_t bits = rng_();
    const int64_t us = bits % 64 == 0
                           ? options.rare_delay_us
                           : static_cast<int64_t>((bits >> 6) % (options.max_delay_us + 1));
    last_ = std::max(last_, Clock::now() + std::chrono::microseconds(us));
    return last_;
  }
  void Push(std::optional<rpc::Message> message, absl::Status close) {
    MutexLock lock(mu_);
    events_.push_back({std::move(message), std::move(close)});
  }
  // Hands the oldest event on. Only one thread calls this, the timer's, once per Push.
  void Pop() {
    std::optional<Event> event;
    {
      MutexLock lock(mu_);
      event = std::move(events_.front());
      events_.pop_front();
    }
    if (event->message) {
      // A stream that broke meanwhile swallows the message; its handler hears why.
      (void)inner_->Send(*std::move(event->message));
    } else {
      inner_->Close(event->close);
    }
  }

 private:
  struct Event {
    std::optional<rpc::Message> message;  // none: Close(close)
    absl::Status close;
  };
  const std::shared_ptr<rpc::Stream> inner_;
  Mutex mu_;
  std::mt19937_64 rng_ ABSL_GUARDED_BY(mu_);
  Clock::time_point last_ ABSL_GUARDED_BY(mu_);
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
};

// Pops each Held at its times, on one thread.
class Timer {
 public:
  // Hands on everything and ends the thread. What is held back later goes nowhere.
  void Stop() {
    {
      MutexLock lock(mu_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
  }
  void At(Clock::time_point when, std::shared_ptr<Held> held) {
    MutexLock lock(mu_);
    if (stopping_) return;
    due_.emplace(when, std::move(held));
    changed_.NotifyAll();
  }
  // Hands on what is held back now, and returns when that is done.
  void Flush() {
    MutexLock lock(mu_);
    if (!due_.empty()) flush_until_ = std::max(flush_until_, due_.rbegin()->first);
    const Clock::time_point mine = flush_until_;
    changed_.NotifyAll();
    while (busy_ || (!due_.empty() && due_.begin()->first <= mine)) handed_on_.Wait(mu_);
  }

 private:
  void Run() {
    mu_.Lock();
    while (!stopping_ || !due_.empty()) {
      if (due_.empty()) {
        changed_.Wait(mu_);
      } else if (const Clock::time_point first = due_.begin()->first;
                 !stopping_ && first > flush_until_ && first > Clock::now()) {
        changed_.WaitUntil(mu_, first);
      } else {
        const std::shared_ptr<Held> held = std::move(due_.begin()->second);
        due_.erase(due_.begin());
        busy_ = true;
        mu_.Unlock();
        held->Pop();
        mu_.Lock();
        busy_ = false;
        handed_on_.NotifyAll();
      }
    }
    mu_.Unlock();
  }

  Mutex mu_;
  CondVar changed_;
  CondVar handed_on_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  Clock::time_point flush_until_ ABSL_GUARDED_BY(mu_);
  std::multimap<Clock::time_point, std::shared_ptr<Held>> due_ ABSL_GUARDED_BY(mu_);
  std::thread thread_{[this] { Run(); }};
};

// What one end's stream and handler must know of each other. Thread-safe.
class EndState {
 public:
  // Marks the end closed; the first status stays.
  void Close(const absl::Status& status) {
    MutexLock lock(mu_);
    if (!closed_) closed_ = status;
  }
  // What Send returns now.
  absl::Status Check() {
    MutexLock lock(mu_);
    return closed_ ? rpc::SendAfterClose(*closed_) : absl::OkStatus();
  }

 private:
  Mutex mu_;
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
};

// Keeps rule 4: an end that called Close, which the inner stream learns only later, receives no
// more messages.
class FilteringHandler : public rpc::StreamHandler {
 public:
  FilteringHandler(std::unique_ptr<rpc::StreamHandler> inner, std::shared_ptr<EndState> state)
      : inner_(std::move(inner)), state_(std::move(state)) {}
  void OnMessage(rpc::Message message) override {
    if (!state_->Check().ok()) return;
    inner_->OnMessage(std::move(message));
    inner_->OnBatchEnd();
  }
  void OnClosed(absl::Status status) override {
    state_->Close(status);
    inner_->OnClosed(std::move(status));
  }

 private:
  const std::unique_ptr<rpc::StreamHandler> inner_;
  const std::shared_ptr<EndState> state_;
};

class DelayedStream : public rpc::Stream {
 public:
  DelayedStream(std::shared_ptr<rpc::Stream> inner, std::shared_ptr<Timer> timer,
                const DelayOptions& options, uint64_t index, std::shared_ptr<EndState> state)
      : inner_(inner),
        timer_(std::move(timer)),
        options_(options),
        state_(std::move(state)),
        held_(std::make_shared<Held>(inner, options.seed * 0x9e3779b97f4a7c15 + index)) {}

  absl::Status Send(rpc::Message message) override {
    RETURN_IF_ERROR(rpc::CheckSendable(message));
    MutexLock lock(mu_);
    RETURN_IF_ERROR(state_->Check());
    Later(std::move(message), absl::OkStatus());
    return absl::OkStatus();
  }
  void Close(absl::Status status) override {
    MutexLock lock(mu_);
    if (!state_->Check().ok()) return;
    state_->Close(status);
    Later(std::nullopt, std::move(status));
  }
  const rpc::Hello& peer() const override { return inner_->peer(); }

 private:
  // Under one lock, so that the order of events is the order of their times.
  void Later(std::optional<rpc::Message> message, absl::Status close)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    held_->Push(std::move(message), std::move(close));
    timer_->At(held_->Draw(options_), held_);
  }

  const std::shared_ptr<rpc::Stream> inner_;
  const std::shared_ptr<Timer> timer_;
  const DelayOptions options_;
  const std::shared_ptr<EndState> state_;
  const std::shared_ptr<Held> held_;
  Mutex mu_;
};

// Closed, after its held messages, when the last reference is dropped.
class ConnectedStream : public DelayedStream {
 public:
  using DelayedStream::DelayedStream;
  ~ConnectedStream() override { Close(absl::OkStatus()); }
};

class DelayedListener : public rpc::Listener {
 public:
  DelayedListener(std::unique_ptr<rpc::Listener> inner, Timer& timer)
      : inner_(std::move(inner)), timer_(timer) {}
  ~DelayedListener() override { timer_.Flush(); }
  const std::string& address() const override { return inner_->address(); }
  rpc::ListenerCounters counters() const override { return inner_->counters(); }

 private:
  const std::unique_ptr<rpc::Listener> inner_;
  Timer& timer_;
};

class DelayTransport : public rpc::Transport {
 public:
  DelayTransport(rpc::Transport& inner, DelayOptions options) : inner_(inner), options_(options) {}
  ~DelayTransport() override { timer_->Stop(); }

  absl::StatusOr<std::unique_ptr<rpc::Listener>> Listen(const std::string& address, rpc::Hello self,
                                                        rpc::Acceptor acceptor) override {
    auto delayed = [this, acceptor = std::move(acceptor)](const rpc::Hello& peer,
                                                          std::shared_ptr<rpc::Stream> stream)
        -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
      auto state = std::make_shared<EndState>();
      ASSIGN_OR_RETURN(auto handler, acceptor(peer, std::make_shared<DelayedStream>(
                                                        std::move(stream), timer_, options_,
                                                        next_index_++, state)));
      return std::make_unique<FilteringHandler>(std::move(handler), std::move(state));
    };
    ASSIGN_OR_RETURN(auto listener, inner_.Listen(address, std::move(self), std::move(delayed)));
    return std::make_unique<DelayedListener>(std::move(listener), *timer_);
  }

  absl::StatusOr<std::shared_ptr<rpc::Stream>> Connect(const std::string& address, rpc::Hello self,
                                                       std::unique_ptr<rpc::StreamHandler> handler,
                                                       rpc::ConnectLimit limit) override {
    auto state = std::make_shared<EndState>();
    auto filtering = std::make_unique<FilteringHandler>(std::move(handler), state);
    ASSIGN_OR_RETURN(auto stream, inner_.Connect(address, std::move(self), std::move(filtering),
                                                 std::move(limit)));
    return std::make_shared<ConnectedStream>(std::move(stream), timer_, options_, next_index_++,
                                             std::move(state));
  }

 private:
  rpc::Transport& inner_;
  const DelayOptions options_;
  std::atomic<uint64_t> next_index_ = 0;
  const std::shared_ptr<Timer> timer_ = std::make_shared<Timer>();
};

}  // namespace

std::unique_ptr<rpc::Transport> MakeDelayTransport(rpc::Transport& inner, DelayOptions options) {
  return std::make_unique<DelayTransport>(inner, options);
}

}  // namespace muster::harness
