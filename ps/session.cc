#include <utility>

#include "ps/client.h"
#include "ps/declare.h"
#include "rpc/process_transport.h"
#include "telemetry/build_id.h"

namespace muster::ps {

absl::StatusOr<Session> Session::Open(const ParamTable& table, const SessionOptions& options) {
  if (options.servers.empty()) return absl::InvalidArgumentError("no parameter server is named");
  rpc::Hello self;
  self.protocol_version = rpc::kProtocolVersion;
  self.build_id = BuildId();
  self.job_token = options.token;
  self.role = "worker";
  self.index = options.index;
  Session out;
  out.log = Log::ToStderr("client");
  ASSIGN_OR_RETURN(out.transport, rpc::MakeProcessTransport(*out.log));
  RETURN_IF_ERROR(Declare(*out.transport, options.servers, self, table, options.num_replicas,
                          options.client.connect_timeout_ms));
  out.partition = std::make_unique<const Partition>(
      MakePartition(table, static_cast<int>(options.servers.size())));
  ASSIGN_OR_RETURN(out.client, Client::Connect(*out.transport, options.servers, self, table,
                                               *out.partition, options.client, *out.log));
  return out;
}

}  // namespace muster::ps
