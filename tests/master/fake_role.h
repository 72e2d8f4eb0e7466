// FakeRole: a role's control stream in the hands of a test, which says what it likes and reads what
// the master answers.
//
// Owned by one thread; the stream closes with it.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "master/agent.h"
#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::master {

inline rpc::Hello HelloOf(const std::string& role, int index = 0) {
  rpc::Hello hello;
  hello.protocol_version = rpc::kProtocolVersion;
  hello.build_id = "test";
  hello.job_token = "token";
  hello.service = "control";
  hello.role = role;
  hello.index = index;
  return hello;
}

class FakeRole {
 public:
  FakeRole(rpc::Transport& transport, const std::string& address, const rpc::Hello& self) {
    auto stream =
        transport.Connect(address, self, std::make_unique<Handler>(inbox_), /*timeout_ms=*/60'000);
    status_ = stream.status();
    if (stream.ok()) stream_ = *std::move(stream);
  }

  // How connecting ended.
  const absl::Status& status() const { return status_; }
  void Say(const RoleMessage& message) { EXPECT_TRUE(stream_->Send(PackControl(message)).ok()); }
  void SayRegister(const std::string& params_address = "") {
    RoleMessage message;
    message.mutable_register_()->set_params_address(params_address);
    Say(message);
  }
  void SayReady(const std::string& data = "") {
    RoleMessage message;
    message.mutable_ready()->set_data_fingerprint(data);
    Say(message);
  }
  rpc::Stream& stream() { return *stream_; }
  // Waits for the master's next message.
  MasterMessage Hear() {
    MutexLock lock(inbox_->mu);
    while (inbox_->messages.empty()) inbox_->arrived.Wait(inbox_->mu);
    MasterMessage message = std::move(inbox_->messages.front());
    inbox_->messages.pop_front();
    return message;
  }
  // Waits for the end of the stream: why.
  absl::Status AwaitClosed() {
    MutexLock lock(inbox_->mu);
    while (!inbox_->closed) inbox_->arrived.Wait(inbox_->mu);
    return *inbox_->closed;
  }

 private:
  struct Inbox {
    Mutex mu;
    CondVar arrived;
    std::deque<MasterMessage> messages ABSL_GUARDED_BY(mu);
    std::optional<absl::Status> closed ABSL_GUARDED_BY(mu);
  };
  class Handler : public rpc::StreamHandler {
   public:
    explicit Handler(std::shared_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}
    void OnMessage(rpc::Message message) override {
      MasterMessage heard;
      EXPECT_TRUE(UnpackControl(message, &heard).ok());
      MutexLock lock(inbox_->mu);
      inbox_->messages.push_back(std::move(heard));
      inbox_->arrived.NotifyAll();
    }
    void OnClosed(absl::Status status) override {
      MutexLock lock(inbox_->mu);
      inbox_->closed = std::move(status);
      inbox_->arrived.NotifyAll();
    }

   private:
    const std::shared_ptr<Inbox> inbox_;
  };

  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  absl::Status status_;
  std::shared_ptr<rpc::Stream> stream_;
};

}  // namespace muster::master
