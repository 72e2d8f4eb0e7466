#include "ps/declared_server.h"

#include <fmt/format.h>

#include <utility>

#include "ps/param_message.h"
#include "ps/wire.h"

namespace muster::ps {
namespace {

constexpr size_t kMaxDeclarationBytes = 64 << 20;
constexpr int kMaxServers = 4096;
constexpr int kMaxReplicas = 1 << 16;
// Copies of a parameter that a server keeps, slots not counted: two versions and a sum; and two
// shadows where pulls are deltas.
int64_t Copies(const ParamSpec& spec) { return SendsDeltas(spec.pull_codec.get()) ? 5 : 3; }

absl::Status CheckNumber(const char* what, int value, int least, int most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is {}; it must be from {} to {}", what, value, least, most));
}

}  // namespace

class DeclaredServer::Handler final : public rpc::StreamHandler {
 public:
  Handler(DeclaredServer& server, std::shared_ptr<rpc::Stream> stream)
      : server_(server), stream_(std::move(stream)) {}

  void OnMessage(rpc::Message message) override {
    const absl::Status status = server_.Declare(message);
    if (status.ok()) {
      stream_->Send(rpc::Message()).IgnoreError();
      return;
    }
    server_.log_.Warning("a declaration was refused: {}", std::string(status.message()));
    stream_->Send(ErrorMessage(message.header, status)).IgnoreError();
  }
  void OnClosed(absl::Status /*status*/) override {}

 private:
  DeclaredServer& server_;
  const std::shared_ptr<rpc::Stream> stream_;
};

rpc::Acceptor DeclaredServer::acceptor() {
  return [this](const rpc::Hello& peer, std::shared_ptr<rpc::Stream> stream)
             -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
    if (peer.service == "declare") return std::make_unique<Handler>(*this, std::move(stream));
    rpc::Acceptor accept;
    {
      MutexLock lock(mu_);
      if (server_ == nullptr) {
        return absl::FailedPreconditionError("no parameters were declared here yet");
      }
      accept = server_->server->acceptor();
    }
    return accept(peer, std::move(stream));
  };
}

absl::Status DeclaredServer::Declare(const rpc::Message& message) {
  Declaration declaration;
  if (message.header.type != rpc::MessageType::kControl ||
      message.payload.size() > kMaxDeclarationBytes ||
      !declaration.ParseFromString(message.payload.Flatten())) {
    return absl::InvalidArgumentError("this is no declaration of parameters");
  }
  const std::string text = declaration.SerializeAsString();
  MutexLock lock(mu_);
  if (server_ != nullptr) {
    if (text == declared_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "another program declared other parameters, servers or replicas here; start new servers, "
        "or declare the same");
  }
  ASSIGN_OR_RETURN(server_, MakeServer(declaration));
  declared_ = text;
  log_.Info("{} parameters, {} elements, {} replicas; server {} of {}",
            server_->table.specs().size(), server_->table.total_size(), declaration.num_replicas(),
            declaration.server(), declaration.num_servers());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<JobServer>> DeclaredServer::MakeServer(
    const Declaration& declaration) const {
  RETURN_IF_ERROR(CheckNumber("the number of servers", declaration.num_servers(), 1, kMaxServers));
  RETURN_IF_ERROR(
      CheckNumber("the server's index", declaration.server(), 0, declaration.num_servers() - 1));
  RETURN_IF_ERROR(
      CheckNumber("the number of replicas", declaration.num_replicas(), 1, kMaxReplicas));
  ASSIGN_OR_RETURN(ParamTable table, FromMessage(declaration.params()));
  int64_t elements = 0;
  for (const ParamSpec& spec : table.specs()) elements += spec.size() * Copies(spec);
  const int64_t bytes = elements / declaration.num_servers() * static_cast<int64_t>(sizeof(float));
  if (bytes > options_.memory_bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("this server's part of the parameters needs {} bytes; it may use {}", bytes,
                    options_.memory_bytes));
  }
  ServerOptions options;
  options.index = declaration.server();
  options.num_replicas = declaration.num_replicas();
  options.allocate = options_.allocate;
  ASSIGN_OR_RETURN(auto server,
                   JobServer::Make(std::move(table), options_.training, declaration.num_servers(),
                                   std::move(options), ServerEvents(), log_));
  RETURN_IF_ERROR(server->server->Initialize());
  return server;
}

}  // namespace muster::ps
