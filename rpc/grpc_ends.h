// The two ends of a gRPC stream, which differ in their handshake. Private to the gRPC transport.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "rpc/grpc_stream.h"
#include "telemetry/log.h"

namespace muster::rpc {

// Says Hello first. Thread-safe.
class ConnectingStream final : public GrpcStream {
 public:
  // `handler` is taken when the stream opens, and otherwise left where it is; it must stay there
  // until WaitOpen returned.
  ConnectingStream(std::unique_ptr<ClientCall> call, grpc::CompletionQueue& cq,
                   std::shared_ptr<StreamSet> set, std::chrono::milliseconds close_grace,
                   Hello self, std::unique_ptr<StreamHandler>* handler);

  void Start(Deadline deadline);
  // Returns OK when the stream is open, or why it did not open, when all is over.
  // `given_up`: as ConnectLimit's; may be null.
  absl::Status WaitOpen(const std::function<bool()>& given_up);
  // After WaitOpen: whether the peer spoke our protocol; asking again will not change its answer.
  bool answered();

 private:
  void OnHandshake(std::vector<Message>& messages) override;
  void OnMalformed(const absl::Status&) override {}
  void OnEnd(const absl::Status& failure) override;
  void Settle(absl::Status result);

  ClientCall& client_call_;
  const Hello self_;
  std::unique_ptr<StreamHandler>* const slot_;

  Mutex mu_;
  CondVar changed_;
  bool answered_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mu_);
};

// What a Listener's streams share. Outlives them.
struct AcceptContext {
  Hello self;
  Acceptor acceptor;
  Log& log;
  AtomicCounters counters;
  std::string authority = {};  // whose certificates peers must show; "": they show none
};

// Waits for the peer's Hello, checks it, asks the acceptor. Thread-safe.
class AcceptedStream final : public GrpcStream {
 public:
  AcceptedStream(std::unique_ptr<ServerCall> call, grpc::CompletionQueue& cq,
                 std::shared_ptr<StreamSet> set, std::chrono::milliseconds close_grace,
                 AcceptContext& context);

  void Start(Deadline deadline, bool known_method);

 private:
  void OnHandshake(std::vector<Message>& messages) override;
  void OnMalformed(const absl::Status& status) override;
  void OnEnd(const absl::Status&) override {}
  void RefuseAndCount(const absl::Status& status);

  AcceptContext& context_;
  ServerCall& server_call_;
};

}  // namespace muster::rpc
