// The gRPC objects of one call, and the thread that hears from them. Private to the gRPC transport.
//
// There is one method, a bidirectional stream of bytes, without stubs of ours: gRPC's generic
// service. Each side has one completion queue and one thread on it, which is also what polls the
// sockets.
#pragma once

#include <grpc/grpc_security_constants.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>

namespace muster::rpc {

inline constexpr char kStreamMethod[] = "/muster.rpc.Transport/Stream";

// What every tag on our completion queues points to.
class CompletionTag {
 public:
  virtual ~CompletionTag() = default;
  // The operation succeeded or not. Called by the queue's thread.
  virtual void Done(bool ok) = 0;
};

// Calls Done of what comes out of a queue, until that is shut down and empty. Destroy after the
// queue's Shutdown.
class CompletionThread {
 public:
  CompletionThread(grpc::CompletionQueue& cq, const char* name);
  ~CompletionThread() { thread_.join(); }
  bool IsCurrent() const { return thread_.get_id() == std::this_thread::get_id(); }

 private:
  std::thread thread_;
};

// One side of a call. At most one Read and one Write at a time, from any thread; destroy when all
// tags are back.
class GrpcCall {
 public:
  virtual ~GrpcCall() = default;
  virtual void Read(grpc::ByteBuffer* to, CompletionTag* tag) = 0;
  virtual void Write(const grpc::ByteBuffer& buffer, CompletionTag* tag) = 0;
  // Writes and ends this side's direction; the server's side thereby also finishes the call.
  virtual void WriteLast(const grpc::ByteBuffer& buffer, CompletionTag* tag) = 0;
  // Ends the call (server), waits for its end (client).
  virtual void Finish(CompletionTag* tag) = 0;
  virtual void Cancel() = 0;
  virtual bool is_server() const = 0;
  // After Finish. Client: what the server or gRPC said; server: OK.
  virtual const grpc::Status& status() const = 0;
  // Address of the other side, for messages.
  virtual std::string peer() const = 0;
};

class ClientCall : public GrpcCall {
 public:
  explicit ClientCall(std::shared_ptr<grpc::Channel> channel, grpc::CompletionQueue& cq);
  ~ClientCall() override;
  void Start(CompletionTag* tag) { stream_->StartCall(tag); }

  void Read(grpc::ByteBuffer* to, CompletionTag* tag) override { stream_->Read(to, tag); }
  void Write(const grpc::ByteBuffer& buffer, CompletionTag* tag) override {
    stream_->Write(buffer, tag);
  }
  void WriteLast(const grpc::ByteBuffer& buffer, CompletionTag* tag) override {
    stream_->WriteLast(buffer, grpc::WriteOptions(), tag);
  }
  void Finish(CompletionTag* tag) override { stream_->Finish(&status_, tag); }
  void Cancel() override { context_->TryCancel(); }
  bool is_server() const override { return false; }
  const grpc::Status& status() const override { return status_; }
  std::string peer() const override { return context_->peer(); }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::Status status_;
};

class ServerCall : public GrpcCall {
 public:
  // Waits for the next call; `tag` comes when it is there, or with false at shutdown.
  void Request(grpc::AsyncGenericService& service, grpc::ServerCompletionQueue& cq,
               CompletionTag* tag) {
    service.RequestCall(&context_, &stream_, &cq, &cq, tag);
  }
  const std::string& method() const { return context_.method(); }

  void Read(grpc::ByteBuffer* to, CompletionTag* tag) override { stream_.Read(to, tag); }
  void Write(const grpc::ByteBuffer& buffer, CompletionTag* tag) override {
    stream_.Write(buffer, tag);
  }
  void WriteLast(const grpc::ByteBuffer& buffer, CompletionTag* tag) override {
    stream_.WriteAndFinish(buffer, grpc::WriteOptions(), grpc::Status::OK, tag);
  }
  void Finish(CompletionTag* tag) override { stream_.Finish(grpc::Status::OK, tag); }
  void Cancel() override { context_.TryCancel(); }
  bool is_server() const override { return true; }
  const grpc::Status& status() const override { return grpc::Status::OK; }
  std::string peer() const override { return context_.peer(); }
  // PEM; "" when the peer showed none.
  std::string certificate() const {
    const auto found =
        context_.auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
    return found.empty() ? "" : std::string(found.front().data(), found.front().size());
  }

 private:
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
};

}  // namespace muster::rpc
