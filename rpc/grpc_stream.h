// One end of a gRPC stream: the queue of what goes out, the read that is always pending, and how it
// all ends. Private to the gRPC transport; grpc_transport.cc derives the connecting and the
// accepting end, which differ in their handshake.
//
// Threads. Send and Close come from anywhere; everything else happens on the completion queue's
// thread. gRPC is never called under mu_, because it may drop payload owners in there.
//
// One write is in flight at a time; what is queued meanwhile goes with the next one (small messages
// share it: kBatchBytes). A sender that finds nothing in flight starts the write itself. With a
// read pending all the time, a peer that dies is noticed at once, and one whose machine is lost by
// keepalive.
//
// The end. Orderly: Close queues a kClose behind the messages; the end that reads it finishes the
// call. Otherwise the read fails (the peer died, the call was cancelled) or Break cancels the call.
// In all cases:
//  1. the read fails, Finish is called and comes back, all tags come back;
//  2. the call is destroyed (the connecting end's socket with it), so gRPC lets go of what it still
//     had to send;
//  3. when the last payload is released, OnClosed is called: borrowed memory is free from then on
//     (rule 2).
#pragma once

#include <grpcpp/alarm.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rpc/grpc_call.h"
#include "rpc/stream_end.h"
#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

class GrpcStream : public Stream, public std::enable_shared_from_this<GrpcStream> {
 public:
  absl::Status Send(Message message) final;
  absl::Status Queue(Message message) final;
  void Flush() final { WriteNext(); }
  void Close(absl::Status status) final;
  const Hello& peer() const final { return peer_; }

 protected:
  using Deadline = std::chrono::system_clock::time_point;

  // `cq` serves the call and outlives the stream's end, which `set` is told of.
  GrpcStream(std::unique_ptr<GrpcCall> call, grpc::CompletionQueue& cq,
             std::shared_ptr<StreamSet> set, std::chrono::milliseconds close_grace);

  // Hooks, on the queue's thread.
  // What came before Open: at least one message, to be answered with Open, Refuse or Break. Leaves
  // in `messages` what is for the handler.
  virtual void OnHandshake(std::vector<Message>& messages) = 0;
  // The peer sent something that is not our protocol.
  virtual void OnMalformed(const absl::Status& status) = 0;
  // The last call. `failure` is what broke the stream before Open.
  virtual void OnEnd(const absl::Status& failure) = 0;

  GrpcCall& call() { return *call_; }
  // Adds the stream to the set; breaks it with `late` when it is not open at `deadline`.
  void Begin(Deadline deadline, absl::Status late);
  // Starts `operation` whose tag calls `done` back.
  class Op final : public CompletionTag {
   public:
    Op(GrpcStream* stream, void (GrpcStream::*done)(bool)) : stream_(stream), done_(done) {}
    void Done(bool ok) override;

   private:
    GrpcStream* const stream_;
    void (GrpcStream::*const done_)(bool);
  };
  // Counts a tag that is about to be given to gRPC.
  CompletionTag* Pending(Op& op);

  // The connecting end's first steps: when the call is up, writes `hello` and reads.
  void OnStarted(bool ok);
  void StartRead();

  // The handshake succeeded: `handler` is called from now on, `first`, if any, goes out before all
  // else.
  void Open(std::unique_ptr<StreamHandler> handler, std::optional<Message> first);
  // Tells the peer why not, and ends.
  void Refuse(absl::Status status);
  // Ends at once because of `status`.
  void Break(absl::Status status);
  // Queues `message` before Open.
  void QueueFirst(Message message);

  Hello peer_;  // set by OnHandshake, before anybody else sees it
  Op start_op_{this, &GrpcStream::OnStarted};

 private:
  void OnRead(bool ok);
  void OnWrite(bool ok);
  void OnFinish(bool ok);
  void OnHandshakeTimer(bool expired);
  void OnCloseTimer(bool expired);
  void OnSettled(bool ok);

  void Deliver(std::vector<Message> messages);
  // False: nothing more is for the handler.
  bool DeliverOne(Message message);
  void WriteNext();
  std::vector<Message> TakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishWhenDone();
  void ArmCloseTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TagIsBack();
  void PayloadsReleased();
  absl::Status FinalStatus();
  const absl::Status* ClosedBy() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Constant after construction.
  grpc::CompletionQueue& cq_;
  const std::shared_ptr<StreamSet> set_;
  const std::chrono::milliseconds close_grace_;

  // Of the queue's thread.
  std::unique_ptr<GrpcCall> call_;  // also used by the sender that holds write_in_flight_
  std::unique_ptr<StreamHandler> handler_;
  grpc::ByteBuffer incoming_;
  absl::Status late_;
  std::shared_ptr<GrpcStream> self_;  // while gRPC knows of us
  Op read_op_{this, &GrpcStream::OnRead};
  Op write_op_{this, &GrpcStream::OnWrite};
  Op finish_op_{this, &GrpcStream::OnFinish};
  Op handshake_timer_op_{this, &GrpcStream::OnHandshakeTimer};
  Op close_timer_op_{this, &GrpcStream::OnCloseTimer};
  Op settled_op_{this, &GrpcStream::OnSettled};
  grpc::Alarm handshake_timer_;
  grpc::Alarm settled_;
  // Writes whose payloads gRPC holds, and one for the call itself.
  std::atomic<int64_t> unsettled_ = 1;

  Mutex mu_;
  std::deque<Message> outgoing_ ABSL_GUARDED_BY(mu_);
  bool open_ ABSL_GUARDED_BY(mu_) = false;
  bool may_write_ ABSL_GUARDED_BY(mu_) = false;
  bool write_in_flight_ ABSL_GUARDED_BY(mu_) = false;
  bool wrote_last_ ABSL_GUARDED_BY(mu_) = false;
  bool last_arrived_ ABSL_GUARDED_BY(mu_) = false;  // gRPC accepted our kClose
  bool read_over_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the call is gone or going, payloads may still be out
  bool close_timer_armed_ ABSL_GUARDED_BY(mu_) = false;
  bool close_deferred_ ABSL_GUARDED_BY(mu_) = false;  // the timer was armed before Open
  bool progress_ ABSL_GUARDED_BY(mu_) = false;  // a write went through since the timer was armed
  int tags_ ABSL_GUARDED_BY(mu_) = 0;           // given to gRPC and not back
  std::optional<absl::Status> local_close_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> peer_close_ ABSL_GUARDED_BY(mu_);
  absl::Status broken_ ABSL_GUARDED_BY(mu_);
  grpc::Alarm close_timer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::rpc
