#include "rpc/grpc_ends.h"

#include <fmt/format.h>

#include <bit>
#include <ctime>
#include <utility>

#include "rpc/framing.h"
#include "rpc/identity.h"

namespace muster::rpc {
namespace {

// A peer that comes again and again must not fill the log.
bool WorthALine(int64_t count) {
  return count <= 10 || std::has_single_bit(static_cast<uint64_t>(count));
}

}  // namespace

ConnectingStream::ConnectingStream(std::unique_ptr<ClientCall> call, grpc::CompletionQueue& cq,
                                   std::shared_ptr<StreamSet> set,
                                   std::chrono::milliseconds close_grace, Hello self,
                                   std::unique_ptr<StreamHandler>* handler)
    : GrpcStream(std::move(call), cq, std::move(set), close_grace),
      client_call_(static_cast<ClientCall&>(GrpcStream::call())),
      self_(std::move(self)),
      slot_(handler) {}

void ConnectingStream::Start(Deadline deadline) {
  QueueFirst(HelloMessage(self_));
  CompletionTag* started = Pending(start_op_);
  Begin(deadline, absl::DeadlineExceededError("nobody answered"));
  client_call_.Start(started);
}

absl::Status ConnectingStream::WaitOpen(const std::function<bool()>& given_up) {
  for (;;) {
    {
      MutexLock lock(mu_);
      while (!result_ && !given_up) changed_.Wait(mu_);
      if (!result_) changed_.WaitUntil(mu_, std::chrono::steady_clock::now() + kGivenUpPause);
      if (result_) return *result_;
    }
    if (given_up()) Close(absl::CancelledError("given up"));
  }
}

bool ConnectingStream::answered() {
  MutexLock lock(mu_);
  return answered_;
}

void ConnectingStream::OnHandshake(std::vector<Message>& messages) {
  const Message first = std::move(messages.front());
  messages.erase(messages.begin());
  absl::Status status;
  if (first.header.type == MessageType::kError) {
    status = ParseStatus(first);
    if (status.ok()) status = absl::UnknownError("refused without a reason");
  } else if (const absl::StatusOr<Hello> hello = ParseHello(first); !hello.ok()) {
    status = hello.status();
  } else {
    status = CheckHello(self_, *hello);
    peer_ = *hello;
  }
  {
    MutexLock lock(mu_);
    answered_ = true;
  }
  if (!status.ok()) return Break(std::move(status));
  Open(std::move(*slot_), std::nullopt);
  Settle(absl::OkStatus());
}

void ConnectingStream::OnEnd(const absl::Status& failure) { Settle(failure); }

void ConnectingStream::Settle(absl::Status result) {
  MutexLock lock(mu_);
  if (result_) return;
  result_ = std::move(result);
  changed_.NotifyAll();
}

AcceptedStream::AcceptedStream(std::unique_ptr<ServerCall> call, grpc::CompletionQueue& cq,
                               std::shared_ptr<StreamSet> set,
                               std::chrono::milliseconds close_grace, AcceptContext& context)
    : GrpcStream(std::move(call), cq, std::move(set), close_grace),
      context_(context),
      server_call_(static_cast<ServerCall&>(this->call())) {}

void AcceptedStream::Start(Deadline deadline, bool known_method) {
  Begin(deadline, absl::DeadlineExceededError("the peer said no Hello"));
  if (!known_method) {
    const absl::Status status = absl::UnimplementedError("a call of a method we do not have");
    OnMalformed(status);
    Break(status);
  }
  StartRead();
}

void AcceptedStream::OnHandshake(std::vector<Message>& messages) {
  const absl::StatusOr<Hello> hello = ParseHello(messages.front());
  const bool alone = messages.size() == 1;
  messages.clear();
  if (!hello.ok() || !alone) {
    const absl::Status status =
        hello.ok() ? absl::InvalidArgumentError("messages before our Hello") : hello.status();
    OnMalformed(status);
    return Break(status);
  }
  if (!context_.authority.empty()) {
    const absl::Status status =
        CheckCertificate(server_call_.certificate(), context_.authority, std::time(nullptr));
    if (!status.ok()) return RefuseAndCount(status);
  }
  if (const absl::Status status = CheckHello(context_.self, *hello); !status.ok()) {
    return RefuseAndCount(status);
  }
  peer_ = *hello;
  auto handler = context_.acceptor(peer_, shared_from_this());
  if (!handler.ok()) return RefuseAndCount(handler.status());
  ++context_.counters.accepted;
  Open(*std::move(handler), HelloMessage(context_.self));
}

void AcceptedStream::RefuseAndCount(const absl::Status& status) {
  if (const int64_t count = ++context_.counters.refused; WorthALine(count)) {
    context_.log.Warning("refused {}: {}", call().peer(), std::string(status.message()));
  }
  Refuse(status);
}

void AcceptedStream::OnMalformed(const absl::Status& status) {
  if (const int64_t count = ++context_.counters.malformed; WorthALine(count)) {
    context_.log.Warning("closed {}: {}", call().peer(), std::string(status.message()));
  }
}

}  // namespace muster::rpc
