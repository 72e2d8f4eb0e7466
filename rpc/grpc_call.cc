#include "rpc/grpc_call.h"

#include <grpcpp/channel.h>
#include <pthread.h>

#include <utility>

namespace muster::rpc {

CompletionThread::CompletionThread(grpc::CompletionQueue& cq, const char* name)
    : thread_([&cq, name] {
        pthread_setname_np(pthread_self(), name);
        void* tag = nullptr;
        bool ok = false;
        while (cq.Next(&tag, &ok)) static_cast<CompletionTag*>(tag)->Done(ok);
      }) {}

ClientCall::ClientCall(std::shared_ptr<grpc::Channel> channel, grpc::CompletionQueue& cq)
    : channel_(std::move(channel)), context_(std::make_unique<grpc::ClientContext>()) {
  context_->set_wait_for_ready(true);
  stream_ = grpc::GenericStub(channel_).PrepareCall(context_.get(), kStreamMethod, &cq);
}

ClientCall::~ClientCall() {
  // In this order: each lives on the next.
  stream_.reset();
  context_.reset();
  channel_.reset();
}

}  // namespace muster::rpc
