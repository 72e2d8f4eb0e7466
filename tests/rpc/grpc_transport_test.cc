#include "rpc/grpc_transport.h"

#include "tests/rpc/transport_suite.h"

namespace muster::rpc {
namespace {

// A transport with a log to go with it.
struct LoggedGrpc {
  std::unique_ptr<Log> log = Log::Discard();
  std::unique_ptr<Transport> transport = *MakeGrpcTransport({}, *log);
};

std::shared_ptr<Transport> MakeTransport() {
  auto both = std::make_shared<LoggedGrpc>();
  return std::shared_ptr<Transport>(both, both->transport.get());
}

INSTANTIATE_TEST_SUITE_P(All, TransportTest,
                         testing::Values(TransportCase{"Grpc", MakeTransport, "127.0.0.1:0"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace muster::rpc
