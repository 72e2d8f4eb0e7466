#include "rpc/grpc_stream.h"

#include <fmt/format.h>

#include <utility>

#include "rpc/framing.h"
#include "rpc/grpc_bytes.h"

namespace muster::rpc {
namespace {

// Small messages share a write up to this much; sendmsg takes 260 ranges at once.
constexpr size_t kBatchBytes = 256 << 10;
constexpr size_t kBatchMessages = 128;

bool EndsDirection(const Message& message) { return message.header.type == MessageType::kClose; }

}  // namespace

GrpcStream::GrpcStream(std::unique_ptr<GrpcCall> call, grpc::CompletionQueue& cq,
                       std::shared_ptr<StreamSet> set, std::chrono::milliseconds close_grace)
    : cq_(cq), set_(std::move(set)), close_grace_(close_grace), call_(std::move(call)) {}

// Tags.

void GrpcStream::Op::Done(bool ok) {
  const std::shared_ptr<GrpcStream> keep = stream_->shared_from_this();
  (stream_->*done_)(ok);
  stream_->TagIsBack();
}

CompletionTag* GrpcStream::Pending(Op& op) {
  MutexLock lock(mu_);
  ++tags_;
  return &op;
}

void GrpcStream::TagIsBack() {
  {
    MutexLock lock(mu_);
    if (--tags_ > 0 || !finished_ || ended_) return;
    ended_ = true;
  }
  call_.reset();
  PayloadsReleased();
}

void GrpcStream::PayloadsReleased() {
  if (unsettled_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  // We may be anywhere within gRPC: the handler is called by the queue's thread.
  settled_.Set(&cq_, std::chrono::system_clock::now(), Pending(settled_op_));
}

void GrpcStream::OnSettled(bool /*ok*/) {
  bool was_open = false;
  {
    MutexLock lock(mu_);
    was_open = open_;
  }
  const absl::Status status = FinalStatus();
  if (was_open) handler_->OnClosed(status);
  handler_.reset();
  OnEnd(was_open ? absl::OkStatus() : status);
  set_->Remove(this);
  self_.reset();
}

// Handshake.

void GrpcStream::Begin(Deadline deadline, absl::Status late) {
  self_ = shared_from_this();
  late_ = std::move(late);
  handshake_timer_.Set(&cq_, deadline, Pending(handshake_timer_op_));
  set_->Add(self_);
}

void GrpcStream::OnStarted(bool ok) {
  if (!ok) {
    {
      MutexLock lock(mu_);
      read_over_ = true;
    }
    FinishWhenDone();
    return;
  }
  {
    MutexLock lock(mu_);
    may_write_ = true;
  }
  StartRead();
  WriteNext();
}

void GrpcStream::OnHandshakeTimer(bool expired) {
  if (!expired) return;
  {
    MutexLock lock(mu_);
    if (open_ || finishing_) return;
  }
  Break(late_);
}

void GrpcStream::QueueFirst(Message message) {
  MutexLock lock(mu_);
  outgoing_.push_front(std::move(message));
}

void GrpcStream::Open(std::unique_ptr<StreamHandler> handler, std::optional<Message> first) {
  handler_ = std::move(handler);
  {
    MutexLock lock(mu_);
    open_ = true;
    may_write_ = true;
    if (first) outgoing_.push_front(*std::move(first));
  }
  handshake_timer_.Cancel();
  WriteNext();
}

void GrpcStream::Refuse(absl::Status status) {
  std::deque<Message> dropped;
  {
    MutexLock lock(mu_);
    dropped.swap(outgoing_);
    outgoing_.push_back(StatusMessage(MessageType::kError, status));
    outgoing_.push_back(StatusMessage(MessageType::kClose, status));
    local_close_ = std::move(status);
    may_write_ = true;
  }
  WriteNext();
}

void GrpcStream::Break(absl::Status status) {
  std::deque<Message> dropped;
  {
    MutexLock lock(mu_);
    if (broken_.ok()) broken_ = std::move(status);
    dropped.swap(outgoing_);
    may_write_ = false;
  }
  call_->Cancel();
}

// Reading.

void GrpcStream::StartRead() { call_->Read(&incoming_, Pending(read_op_)); }

void GrpcStream::OnRead(bool ok) {
  if (!ok) {
    {
      MutexLock lock(mu_);
      read_over_ = true;
    }
    FinishWhenDone();
    return;
  }
  grpc::ByteBuffer buffer;
  buffer.Swap(&incoming_);
  absl::StatusOr<std::vector<Message>> messages = ParseFrames(FromByteBuffer(buffer));
  buffer.Clear();
  bool open = false;
  {
    MutexLock lock(mu_);
    open = open_;
  }
  if (!messages.ok()) {
    OnMalformed(messages.status());
    Break(messages.status());
    messages = std::vector<Message>();
  } else if (!open) {
    OnHandshake(*messages);
  }
  // gRPC can go on receiving while the handler works.
  StartRead();
  Deliver(*std::move(messages));
}

void GrpcStream::Deliver(std::vector<Message> messages) {
  bool any = false;
  for (Message& message : messages) {
    if (!DeliverOne(std::move(message))) break;
    any = true;
  }
  if (any) handler_->OnBatchEnd();
}

bool GrpcStream::DeliverOne(Message message) {
  if (message.header.type == MessageType::kClose) {
    {
      MutexLock lock(mu_);
      if (!open_ || peer_close_) return false;
      peer_close_ = ParseStatus(message);
      ArmCloseTimer();
    }
    FinishWhenDone();
    return false;
  }
  if (message.header.type == MessageType::kHello) {
    const absl::Status status = absl::InvalidArgumentError("a second Hello on an open stream");
    OnMalformed(status);
    Break(status);
    return false;
  }
  {
    MutexLock lock(mu_);
    if (!open_ || local_close_ || peer_close_ || !broken_.ok()) return false;
  }
  handler_->OnMessage(std::move(message));
  return true;
}

// Writing.

absl::Status GrpcStream::Send(Message message) {
  RETURN_IF_ERROR(Queue(std::move(message)));
  WriteNext();
  return absl::OkStatus();
}

absl::Status GrpcStream::Queue(Message message) {
  RETURN_IF_ERROR(CheckSendable(message));
  message.header.payload_bytes = message.payload.size();
  MutexLock lock(mu_);
  if (const absl::Status* closed = ClosedBy()) return SendAfterClose(*closed);
  outgoing_.push_back(std::move(message));
  return absl::OkStatus();
}

std::vector<Message> GrpcStream::TakeBatch() {
  std::vector<Message> batch;
  size_t bytes = 0;
  do {
    bytes += sizeof(Header) + outgoing_.front().payload.size();
    batch.push_back(std::move(outgoing_.front()));
    outgoing_.pop_front();
  } while (!outgoing_.empty() && batch.size() < kBatchMessages &&
           bytes + outgoing_.front().payload.size() <= kBatchBytes);
  return batch;
}

void GrpcStream::WriteNext() {
  std::vector<Message> batch;
  bool last = false;
  {
    MutexLock lock(mu_);
    if (!may_write_ || write_in_flight_ || finishing_ || outgoing_.empty()) return;
    batch = TakeBatch();
    last = EndsDirection(batch.back());
    write_in_flight_ = true;
    wrote_last_ = last;
    if (last) may_write_ = false;
    // The server's last write is its Finish.
    if (last && call_->is_server()) finishing_ = true;
    ++tags_;
  }
  unsettled_.fetch_add(1, std::memory_order_relaxed);
  const grpc::ByteBuffer buffer =
      ToByteBuffer(std::move(batch), [self = shared_from_this()] { self->PayloadsReleased(); });
  if (!last) return call_->Write(buffer, &write_op_);
  call_->WriteLast(buffer, call_->is_server() ? &finish_op_ : &write_op_);
}

void GrpcStream::OnWrite(bool ok) {
  std::deque<Message> dropped;
  {
    MutexLock lock(mu_);
    write_in_flight_ = false;
    progress_ = true;
    if (!ok) {
      may_write_ = false;
      dropped.swap(outgoing_);
    }
  }
  FinishWhenDone();
  WriteNext();
}

// Ending.

void GrpcStream::Close(absl::Status status) {
  {
    MutexLock lock(mu_);
    if (ClosedBy() != nullptr) return;
    outgoing_.push_back(StatusMessage(MessageType::kClose, status));
    local_close_ = std::move(status);
    ArmCloseTimer();
  }
  WriteNext();
}

void GrpcStream::ArmCloseTimer() {
  if (close_timer_armed_ || finished_) return;
  close_timer_armed_ = true;
  progress_ = false;
  // Closed before it is open: at once, unless the acceptor is just about to open it.
  close_deferred_ = !open_;
  const auto delay = open_ ? close_grace_ : std::chrono::milliseconds(0);
  ++tags_;
  close_timer_.Set(&cq_, std::chrono::system_clock::now() + delay, &close_timer_op_);
}

void GrpcStream::OnCloseTimer(bool expired) {
  {
    MutexLock lock(mu_);
    close_timer_armed_ = false;
    if (!expired || finished_) return;
    if (open_ && (close_deferred_ || progress_)) return ArmCloseTimer();
  }
  Break(absl::DeadlineExceededError(fmt::format("{} did not read for {} ms after the close",
                                                call_->peer(), close_grace_.count())));
}

void GrpcStream::FinishWhenDone() {
  std::deque<Message> dropped;
  {
    MutexLock lock(mu_);
    if (finishing_) return;
    const bool done = read_over_ || (call_->is_server() && peer_close_);
    if (!done || (call_->is_server() && write_in_flight_)) return;
    finishing_ = true;
    dropped.swap(outgoing_);
    ++tags_;
  }
  call_->Finish(&finish_op_);
}

void GrpcStream::OnFinish(bool ok) {
  const grpc::Status& status = call_->status();
  MutexLock lock(mu_);
  finished_ = true;
  last_arrived_ = wrote_last_ && ok && status.ok();
  if (broken_.ok() && !status.ok()) {
    broken_ = absl::UnavailableError(
        fmt::format("the connection to {} broke: {}", call_->peer(), status.error_message()));
  }
  handshake_timer_.Cancel();
  if (close_timer_armed_) close_timer_.Cancel();
}

const absl::Status* GrpcStream::ClosedBy() {
  if (local_close_) return &*local_close_;
  if (peer_close_) return &*peer_close_;
  if (!broken_.ok()) return &broken_;
  return nullptr;
}

absl::Status GrpcStream::FinalStatus() {
  MutexLock lock(mu_);
  if (local_close_ && (!local_close_->ok() || last_arrived_ || peer_close_)) return *local_close_;
  if (!local_close_ && peer_close_) return *peer_close_;
  if (!broken_.ok()) return broken_;
  return absl::UnavailableError("the connection broke; the peer has died or cannot be reached");
}

}  // namespace muster::rpc
