#include "rpc/grpc_transport.h"

#include <fmt/format.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "rpc/grpc_call.h"
#include "rpc/grpc_ends.h"
#include "rpc/grpc_socket.h"
#include "telemetry/check.h"

namespace muster::rpc {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

constexpr int kMaxGrpcMessageBytes = static_cast<int>(kMaxPayloadBytes) + (64 << 10);
constexpr milliseconds kRetryPause(20);

// What both sides set. Flow control (BDP probing) and frame sizes are best left alone.
grpc::ChannelArguments SharedArguments(const GrpcOptions& options, const std::string& address) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kMaxGrpcMessageBytes);
  args.SetMaxSendMessageSize(kMaxGrpcMessageBytes);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(options.keepalive_ms));
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(options.keepalive_timeout_ms));
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Nothing we send is compressed; a peer's compressed bytes would be a way to make us allocate.
  // Buffers of one size: what is freed fits what is received next, and the heap stays as it is.
  constexpr int kReadBytes = 256 << 10;
  args.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadBytes);
  args.SetInt(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, kReadBytes);
  args.SetInt(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadBytes);
  args.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
  args.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  std::string congestion = options.congestion_control;
  if (congestion.empty() && IsLoopback(address)) congestion = "cubic";
  if (!congestion.empty()) SetCongestionControl(args, congestion);
  return args;
}

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const Identity& identity) {
  if (identity.empty()) return grpc::InsecureServerCredentials();
  // A peer's certificate is looked at where its Hello is, so that one that is refused is told why,
  // and counted.
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
  options.pem_root_certs = identity.authority;
  options.pem_key_cert_pairs.push_back({identity.key, identity.certificate});
  return grpc::SslServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> ChannelCredentials(const Identity& identity) {
  if (identity.empty()) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({identity.authority, identity.key, identity.certificate});
}

class ServerArguments : public grpc::ServerBuilderOption {
 public:
  ServerArguments(const GrpcOptions& options, std::string address)
      : options_(options), address_(std::move(address)) {}
  void UpdateArguments(grpc::ChannelArguments* args) override {
    *args = SharedArguments(options_, address_);
    args->SetInt(GRPC_ARG_ALLOW_REUSEPORT, 0);
    args->SetInt(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, static_cast<int>(options_.hello_timeout_ms));
    // Our clients' keepalive must not pass for abuse.
    args->SetInt(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
    args->SetInt(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  }
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*) override {}

 private:
  const GrpcOptions options_;
  const std::string address_;
};

class GrpcListener : public Listener {
 public:
  GrpcListener(const GrpcOptions& options, Hello self, Acceptor acceptor, Log& log)
      : options_(options),
        context_{std::move(self), std::move(acceptor), log, {}, options.identity.authority} {}

  ~GrpcListener() override {
    if (server_ != nullptr) {
      CHECK(!thread_->IsCurrent());  // rule 5
      streams_->CloseAll();
      server_->Shutdown(system_clock::now() + 2 * milliseconds(options_.close_grace_ms));
      streams_->WaitEmpty();
    }
    if (cq_ != nullptr) cq_->Shutdown();
    thread_.reset();
  }

  absl::Status Start(const std::string& address) {
    RETURN_IF_ERROR(CheckListenable(address));
    grpc::ServerBuilder builder;
    builder.SetOption(std::make_unique<ServerArguments>(options_, address));
    builder.RegisterAsyncGenericService(&service_);
    int port = 0;
    builder.AddListeningPort(address, ServerCredentials(options_.identity), &port);
    cq_ = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    thread_.emplace(*cq_, "rpc-accept");
    if (server_ == nullptr || port == 0) {
      return absl::UnavailableError(
          fmt::format("cannot listen on {}: gRPC refused it (its reason is on stderr)", address));
    }
    address_ = fmt::format("{}:{}", address.substr(0, address.rfind(':')), port);
    AcceptNext();
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }
  ListenerCounters counters() const override { return context_.counters.Get(); }

 private:
  // Waits for one call and makes it a stream.
  class Accept : public CompletionTag {
   public:
    explicit Accept(GrpcListener& listener) : listener_(listener) {
      call_->Request(listener_.service_, *listener_.cq_, this);
    }
    void Done(bool ok) override {
      if (ok) {
        listener_.AcceptNext();
        listener_.Accepted(std::move(call_));
      }
      delete this;
    }

   private:
    GrpcListener& listener_;
    std::unique_ptr<ServerCall> call_ = std::make_unique<ServerCall>();
  };

  void AcceptNext() { new Accept(*this); }

  void Accepted(std::unique_ptr<ServerCall> call) {
    const bool known_method = call->method() == kStreamMethod;
    auto stream = std::make_shared<AcceptedStream>(std::move(call), *cq_, streams_,
                                                   milliseconds(options_.close_grace_ms), context_);
    stream->Start(system_clock::now() + milliseconds(options_.hello_timeout_ms), known_method);
  }

  const GrpcOptions options_;
  AcceptContext context_;
  std::string address_;
  const std::shared_ptr<StreamSet> streams_ = std::make_shared<StreamSet>();
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> cq_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<CompletionThread> thread_;
};

class GrpcTransport : public Transport {
 public:
  GrpcTransport(GrpcOptions options, Log& log) : options_(std::move(options)), log_(log) {}

  ~GrpcTransport() override {
    connected_->CloseAll();
    connected_->WaitEmpty();
    cq_.Shutdown();
    MutexLock lock(mu_);
    if (!thread_) thread_.emplace(cq_, "rpc-connect");  // a queue must be emptied
    CHECK(!thread_->IsCurrent());                       // rule 5
    thread_.reset();
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                   Acceptor acceptor) override {
    ASSIGN_OR_RETURN(const std::vector<std::string> ports, PortsOf(address));
    absl::Status taken;
    for (const std::string& port : ports) {
      auto listener = std::make_unique<GrpcListener>(options_, self, acceptor, log_);
      taken = listener->Start(port);
      if (taken.ok()) return listener;
      if (!absl::IsUnavailable(taken)) return taken;
    }
    if (ports.size() == 1) return taken;
    return absl::UnavailableError(
        fmt::format("cannot listen on {}: none of these ports is free there", address));
  }

  absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                  std::unique_ptr<StreamHandler> handler,
                                                  ConnectLimit limit) override {
    StartThread();
    const auto deadline = system_clock::now() + milliseconds(limit.timeout_ms);
    for (;;) {
      auto stream = std::make_shared<ConnectingStream>(
          std::make_unique<ClientCall>(MakeChannel(address), cq_), cq_, connected_,
          milliseconds(options_.close_grace_ms), self, &handler);
      stream->Start(deadline);
      const absl::Status status = stream->WaitOpen(limit.given_up);
      if (status.ok()) return ClosedWhenDropped(stream);
      if (limit.given_up && limit.given_up()) return absl::CancelledError(address + ": given up");
      if (stream->answered() || system_clock::now() + kRetryPause >= deadline) {
        return absl::Status(
            status.code(),
            fmt::format("{}: {}{}", address, std::string(status.message()),
                        stream->answered() ? std::string()
                                           : fmt::format(" (tried for {} ms)", limit.timeout_ms)));
      }
      std::this_thread::sleep_for(kRetryPause);
    }
  }

 private:
  void StartThread() {
    MutexLock lock(mu_);
    if (!thread_) thread_.emplace(cq_, "rpc-connect");
    CHECK(!thread_->IsCurrent());  // rule 5
  }

  // Each stream has a connection of its own.
  std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
    grpc::ChannelArguments args = SharedArguments(options_, address);
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    // What is retried is decided above; a retrying call would keep copies of what it sent.
    args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    if (!options_.identity.empty()) args.SetSslTargetNameOverride(kCertifiedName);
    return grpc::CreateCustomChannel(address, ChannelCredentials(options_.identity), args);
  }

  const GrpcOptions options_;
  Log& log_;
  const std::shared_ptr<StreamSet> connected_ = std::make_shared<StreamSet>();
  grpc::CompletionQueue cq_;
  Mutex mu_;
  std::optional<CompletionThread> thread_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeGrpcTransport(GrpcOptions options, Log& log) {
  if (options.keepalive_ms <= 0 || options.keepalive_timeout_ms <= 0 ||
      options.hello_timeout_ms <= 0 || options.close_grace_ms <= 0) {
    return absl::InvalidArgumentError("every time of GrpcOptions must be positive");
  }
  return std::make_unique<GrpcTransport>(std::move(options), log);
}

}  // namespace muster::rpc
