#include "ps/declare.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "ps/param_message.h"
#include "ps/wire.h"
#include "telemetry/mutex.h"

namespace muster::ps {
namespace {

using Clock = std::chrono::steady_clock;

// What a server says to a declaration. Thread-safe.
class Reply {
 public:
  void Set(absl::Status status) {
    MutexLock lock(mu_);
    if (!status_.has_value()) status_ = std::move(status);
    changed_.NotifyAll();
  }
  // Hands the answer over, once.
  absl::Status Take(Clock::time_point deadline) {
    MutexLock lock(mu_);
    while (!status_.has_value()) {
      if (!changed_.WaitUntil(mu_, deadline) && !status_.has_value()) {
        return absl::DeadlineExceededError("no answer to the declaration of the parameters");
      }
    }
    return *std::move(status_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mu_);
};

class ReplyHandler final : public rpc::StreamHandler {
 public:
  explicit ReplyHandler(std::shared_ptr<Reply> reply) : reply_(std::move(reply)) {}
  void OnMessage(rpc::Message message) override {
    switch (message.header.type) {
      case rpc::MessageType::kControl:
        return reply_->Set(absl::OkStatus());
      case rpc::MessageType::kError:
        return reply_->Set(StatusOf(message));
      default:
        return reply_->Set(absl::InternalError("its answer to a declaration is none"));
    }
  }
  void OnClosed(absl::Status status) override {
    reply_->Set(absl::UnavailableError(status.ok() ? "it closed the stream"
                                                   : std::string(status.message())));
  }

 private:
  const std::shared_ptr<Reply> reply_;
};

absl::Status DeclareTo(rpc::Transport& transport, const std::string& server,
                       const rpc::Hello& hello, const Declaration& declaration,
                       int64_t timeout_ms) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  auto reply = std::make_shared<Reply>();
  ASSIGN_OR_RETURN(
      const std::shared_ptr<rpc::Stream> stream,
      transport.Connect(server, hello, std::make_unique<ReplyHandler>(reply), timeout_ms));
  rpc::Message message;
  message.payload = rpc::Payload::Own(declaration.SerializeAsString());
  RETURN_IF_ERROR(stream->Send(std::move(message)));
  return reply->Take(deadline);
}

}  // namespace

absl::Status Declare(rpc::Transport& transport, const std::vector<std::string>& servers,
                     const rpc::Hello& self, const ParamTable& table, int num_replicas,
                     int64_t timeout_ms) {
  rpc::Hello hello = self;
  hello.service = "declare";
  Declaration declaration;
  ToMessage(table.specs(), declaration.mutable_params());
  declaration.set_num_servers(static_cast<int32_t>(servers.size()));
  declaration.set_num_replicas(num_replicas);
  for (size_t i = 0; i < servers.size(); ++i) {
    declaration.set_server(static_cast<int32_t>(i));
    const absl::Status status = DeclareTo(transport, servers[i], hello, declaration, timeout_ms);
    if (!status.ok()) {
      return absl::Status(status.code(), fmt::format("parameter server {} at {}: {}", i, servers[i],
                                                     std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster::ps
