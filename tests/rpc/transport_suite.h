// The one suite that every transport passes (transport_suite.cc, transport_stress.cc): a binary
// links it and instantiates it with the transports it is about. Also what its tests are written
// with.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

// A transport under test; `make` builds it with whatever it stands on.
struct TransportCase {
  std::string name;
  std::function<std::shared_ptr<Transport>()> make;
  std::string listen_address;  // one where the system chooses the port
};

inline Hello TestHello(const std::string& role, int index = 0) {
  return {kProtocolVersion, "test-build", "test-token", "control", role, index};
}

// What a handler saw. Thread-safe; shared by the test and its handler. Keeps copies of the bytes: a
// received payload that is kept may hold back the sender's OnClosed (rule 2).
class Inbox {
 public:
  void Add(const Message& received) {
    Message message{received.header, Payload::Own(received.payload.Flatten())};
    MutexLock lock(mu_);
    messages_.push_back(std::move(message));
    changed_.NotifyAll();
  }
  void Closed(absl::Status status) {
    MutexLock lock(mu_);
    ++closed_calls_;
    closed_ = std::move(status);
    changed_.NotifyAll();
  }
  void Destroyed() {
    MutexLock lock(mu_);
    destroyed_ = true;
    changed_.NotifyAll();
  }
  // Returns when `n` messages came (all so far), or the stream closed.
  std::vector<Message> WaitFor(size_t n) {
    MutexLock lock(mu_);
    while (messages_.size() < n && !closed_) changed_.Wait(mu_);
    return messages_;
  }
  absl::Status WaitClosed() {
    MutexLock lock(mu_);
    while (!closed_) changed_.Wait(mu_);
    return *closed_;
  }
  void WaitDestroyed() {
    MutexLock lock(mu_);
    while (!destroyed_) changed_.Wait(mu_);
  }
  int closed_calls() {
    MutexLock lock(mu_);
    return closed_calls_;
  }
  size_t size() {
    MutexLock lock(mu_);
    return messages_.size();
  }
  void Clear() {
    MutexLock lock(mu_);
    messages_.clear();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<Message> messages_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
  int closed_calls_ ABSL_GUARDED_BY(mu_) = 0;
  bool destroyed_ ABSL_GUARDED_BY(mu_) = false;
};

// Records into an Inbox, then calls `on_message`, if any.
class RecordingHandler : public StreamHandler {
 public:
  using OnMessageFn = std::function<void(const Message&)>;
  explicit RecordingHandler(std::shared_ptr<Inbox> inbox, OnMessageFn on_message = nullptr)
      : inbox_(std::move(inbox)), on_message_(std::move(on_message)) {}
  ~RecordingHandler() override { inbox_->Destroyed(); }
  void OnMessage(Message message) override {
    inbox_->Add(message);
    if (on_message_) on_message_(message);
  }
  void OnClosed(absl::Status status) override { inbox_->Closed(std::move(status)); }

 private:
  const std::shared_ptr<Inbox> inbox_;
  const OnMessageFn on_message_;
};

// Accepts every peer. Keeps the streams and what came on them, in order of acceptance. Thread-safe.
class TestServer {
 public:
  // `on_message` runs after a message was recorded, with the stream it came on.
  using OnMessageFn = std::function<void(const std::shared_ptr<Stream>&, const Message&)>;
  explicit TestServer(OnMessageFn on_message = nullptr) : on_message_(std::move(on_message)) {}

  Acceptor acceptor() {
    return
        [this](const Hello&,
               std::shared_ptr<Stream> stream) -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
          auto inbox = std::make_shared<Inbox>();
          RecordingHandler::OnMessageFn on_message;
          if (on_message_) {
            on_message = [this, stream](const Message& message) { on_message_(stream, message); };
          }
          MutexLock lock(mu_);
          accepted_.push_back({stream, inbox});
          changed_.NotifyAll();
          return std::make_unique<RecordingHandler>(inbox, std::move(on_message));
        };
  }
  struct Accepted {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<Inbox> inbox;
  };
  // The i-th accepted stream, when it is there.
  Accepted Get(size_t i) {
    MutexLock lock(mu_);
    while (accepted_.size() <= i) changed_.Wait(mu_);
    return accepted_[i];
  }

 private:
  const OnMessageFn on_message_;
  Mutex mu_;
  CondVar changed_;
  std::vector<Accepted> accepted_ ABSL_GUARDED_BY(mu_);
};

inline Message NumberedMessage(int64_t step, std::string text = "") {
  Message message;
  message.header.step = step;
  if (!text.empty()) message.payload = Payload::Own(std::move(text));
  return message;
}

inline void PrintTo(const TransportCase& c, std::ostream* out) { *out << c.name; }

class TransportTest : public testing::TestWithParam<TransportCase> {
 protected:
  static constexpr int64_t kTimeoutMs = 60'000;

  void SetUp() override { transport_ = GetParam().make(); }

  std::unique_ptr<Listener> Listen(Acceptor acceptor) {
    auto listener =
        transport_->Listen(GetParam().listen_address, TestHello("ps"), std::move(acceptor));
    EXPECT_TRUE(listener.ok()) << listener.status();
    return *std::move(listener);
  }
  struct Client {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<Inbox> inbox;
  };
  Client Connect(const Listener& listener, RecordingHandler::OnMessageFn on_message = nullptr,
                 int index = 0) {
    auto inbox = std::make_shared<Inbox>();
    auto stream =
        transport_->Connect(listener.address(), TestHello("worker", index),
                            std::make_unique<RecordingHandler>(inbox, on_message), kTimeoutMs);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return {*std::move(stream), inbox};
  }

  std::shared_ptr<Transport> transport_;
};

}  // namespace muster::rpc
