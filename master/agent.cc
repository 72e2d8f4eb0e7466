#include "master/agent.h"

#include <chrono>

namespace muster::master {
namespace {

constexpr auto kHeartbeatInterval = std::chrono::seconds(1);

}  // namespace

rpc::Message PackControl(const google::protobuf::MessageLite& message) {
  rpc::Message packed;
  packed.header.type = rpc::MessageType::kControl;
  packed.payload = rpc::Payload::Own(message.SerializeAsString());
  return packed;
}

absl::Status UnpackControl(const rpc::Message& message, google::protobuf::MessageLite* out) {
  if (message.header.type != rpc::MessageType::kControl) {
    return absl::InvalidArgumentError(
        fmt::format("message type {} on a control stream", static_cast<int>(message.header.type)));
  }
  if (!out->ParseFromString(message.payload.Flatten())) {
    return absl::InvalidArgumentError("a control message that does not parse");
  }
  return absl::OkStatus();
}

class Agent::Handler : public rpc::StreamHandler {
 public:
  explicit Handler(Agent* agent) : agent_(agent) {}

  void OnMessage(rpc::Message message) override {
    MasterMessage command;
    if (absl::Status status = UnpackControl(message, &command); !status.ok()) {
      agent_->stream_->Close(status);
      return;
    }
    agent_->events_.on_command(command);
  }

  void OnClosed(absl::Status status) override {
    bool expected;
    {
      MutexLock lock(agent_->mu_);
      expected = agent_->stop_;
    }
    if (!expected && agent_->events_.on_lost) agent_->events_.on_lost(status);
    MutexLock lock(agent_->mu_);
    agent_->closed_ = true;
    agent_->stopped_.NotifyAll();
  }

 private:
  Agent* const agent_;
};

absl::StatusOr<std::unique_ptr<Agent>> Agent::Join(rpc::Transport& transport,
                                                   const std::string& master,
                                                   const rpc::Hello& self,
                                                   const Register& registration, Events events,
                                                   int64_t timeout_ms) {
  auto agent = std::unique_ptr<Agent>(new Agent(std::move(events)));
  auto stream = transport.Connect(master, self, std::make_unique<Handler>(agent.get()), timeout_ms);
  if (!stream.ok()) {
    // No stream, so no OnClosed to wait for.
    MutexLock lock(agent->mu_);
    agent->closed_ = true;
    return absl::Status(stream.status().code(),
                        fmt::format("{}-{} cannot join the master at {}: {}", self.role, self.index,
                                    master, std::string(stream.status().message())));
  }
  agent->stream_ = *std::move(stream);
  RoleMessage message;
  *message.mutable_register_() = registration;
  agent->Send(message);
  agent->heartbeat_ = std::thread([raw = agent.get()] { raw->HeartbeatLoop(); });
  return agent;
}

Agent::~Agent() {
  {
    MutexLock lock(mu_);
    stop_ = true;
    stopped_.NotifyAll();
  }
  if (heartbeat_.joinable()) heartbeat_.join();
  if (stream_ != nullptr) stream_->Close();
  MutexLock lock(mu_);
  while (!closed_) stopped_.Wait(mu_);
}

void Agent::Send(const RoleMessage& message) { (void)stream_->Send(PackControl(message)); }

void Agent::HeartbeatLoop() {
  auto next = std::chrono::steady_clock::now();
  for (;;) {
    next += kHeartbeatInterval;
    {
      MutexLock lock(mu_);
      while (!stop_ && stopped_.WaitUntil(mu_, next)) {
      }
      if (stop_) return;
    }
    RoleMessage message;
    message.mutable_heartbeat()->set_clock(clock_);
    Send(message);
  }
}

}  // namespace muster::master
