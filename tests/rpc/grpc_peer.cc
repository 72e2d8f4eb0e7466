// A process at the other end, for tests that kill one: listens, prints its address, answers what it
// receives until it is killed.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "rpc/grpc_transport.h"
#include "tests/rpc/transport_suite.h"

int main() {
  using namespace muster::rpc;
  auto log = muster::Log::Discard();
  auto transport = MakeGrpcTransport({}, *log);
  TestServer server([](const std::shared_ptr<Stream>& stream, const Message& message) {
    (void)stream->Send(message);
  });
  auto listener = (*transport)->Listen("127.0.0.1:0", TestHello("ps"), server.acceptor());
  if (!listener.ok()) return 1;
  std::printf("%s\n", (*listener)->address().c_str());
  std::fflush(stdout);
  for (;;) pause();
}
