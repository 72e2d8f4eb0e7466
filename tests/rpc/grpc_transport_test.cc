#include "rpc/grpc_transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>

#include "rpc/grpc_call.h"
#include "rpc/shared_transport.h"
#include "tests/harness/delay_transport.h"
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

struct DelayedGrpc {
  LoggedGrpc inner;
  std::unique_ptr<Transport> delayed = harness::MakeDelayTransport(
      *inner.transport, {.seed = 20261121, .max_delay_us = 200, .rare_delay_us = 2'000});
};

std::shared_ptr<Transport> MakeDelayedTransport() {
  auto both = std::make_shared<DelayedGrpc>();
  return std::shared_ptr<Transport>(both, both->delayed.get());
}

struct SharedGrpc {
  std::unique_ptr<Log> log = Log::Discard();
  std::unique_ptr<SharedTransport> transport =
      *MakeSharedTransport(*MakeGrpcTransport({}, *log), *log);
};

std::shared_ptr<Transport> MakeSharedGrpcTransport() {
  auto both = std::make_shared<SharedGrpc>();
  return std::shared_ptr<Transport>(both, both->transport.get());
}

INSTANTIATE_TEST_SUITE_P(
    All, TransportTest,
    testing::Values(TransportCase{"Grpc", MakeTransport, "127.0.0.1:0"},
                    TransportCase{"DelayedGrpc", MakeDelayedTransport, "127.0.0.1:0"},
                    TransportCase{"SharedGrpc", MakeSharedGrpcTransport, "127.0.0.1:0"}),
    [](const auto& info) { return info.param.name; });

// tests/rpc/grpc_peer.cc as a child process.
class Peer {
 public:
  Peer() {
    int out[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    const std::string program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "grpc_peer";
    char* argv[] = {const_cast<char*>(program.c_str()), nullptr};
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ), 0) << program;
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) address_ += c;
    close(out[0]);
  }
  ~Peer() {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  void Signal(int signal) { kill(pid_, signal); }
  const std::string& address() const { return address_; }

 private:
  pid_t pid_ = 0;
  std::string address_;
};

struct Client {
  std::shared_ptr<Stream> stream;
  std::shared_ptr<Inbox> inbox = std::make_shared<Inbox>();
};

Client ConnectTo(Transport& transport, const std::string& address) {
  Client client;
  auto stream = transport.Connect(address, TestHello("worker"),
                                  std::make_unique<RecordingHandler>(client.inbox), 60'000);
  EXPECT_TRUE(stream.ok()) << stream.status();
  client.stream = *std::move(stream);
  return client;
}

TEST(GrpcTransport, APeerThatIsKilledIsNoticedAtOnce) {
  Peer peer;
  auto transport = MakeTransport();
  Client client = ConnectTo(*transport, peer.address());
  ASSERT_TRUE(client.stream->Send(NumberedMessage(1, "are you there")).ok());
  ASSERT_EQ(client.inbox->WaitFor(1).size(), 1u);
  peer.Signal(SIGKILL);
  // Keepalive would take 40 s, the suite's time limit is not what ends this wait.
  const absl::Status status = client.inbox->WaitClosed();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find(peer.address()), absl::string_view::npos) << status;
  EXPECT_EQ(client.stream->Send(NumberedMessage(2)).code(), absl::StatusCode::kUnavailable);
}

TEST(GrpcTransport, APeerKilledWhileMuchIsUnderWayGivesBorrowedMemoryBack) {
  Peer peer;
  auto transport = MakeTransport();
  Client client = ConnectTo(*transport, peer.address());
  std::atomic<int> dropped = 0;
  {
    const std::vector<std::byte> bytes(4 << 20);
    for (int i = 0; i < 32; ++i) {
      Message message = NumberedMessage(i);
      message.payload = Payload::Borrow(
          bytes, std::shared_ptr<const void>(&dropped, [&](const void*) { ++dropped; }));
      ASSERT_TRUE(client.stream->Send(std::move(message)).ok());
    }
    (void)client.inbox->WaitFor(1);
    peer.Signal(SIGKILL);
    (void)client.inbox->WaitClosed();
    client.inbox->WaitDestroyed();
  }
  EXPECT_EQ(dropped, 32);
}

TEST(GrpcTransport, AMachineThatVanishesIsNoticedByKeepalive) {
  Peer peer;
  auto log = Log::Discard();
  auto transport = MakeGrpcTransport({.keepalive_ms = 200, .keepalive_timeout_ms = 200}, *log);
  ASSERT_TRUE(transport.ok());
  Client client = ConnectTo(**transport, peer.address());
  peer.Signal(SIGSTOP);  // its kernel still acknowledges bytes, but nobody answers
  EXPECT_EQ(client.inbox->WaitClosed().code(), absl::StatusCode::kUnavailable);
}

TEST(GrpcTransport, ConnectingToSomebodyWhoNeverAnswersEndsWhenItIsGivenUp) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof(at);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&at), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size), 0);
  const std::string address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  auto log = Log::Discard();
  auto transport = MakeGrpcTransport({}, *log);
  ASSERT_TRUE(transport.ok());
  int asked = 0;
  const auto stream = (*transport)
                          ->Connect(address, TestHello("worker"),
                                    std::make_unique<RecordingHandler>(std::make_shared<Inbox>()),
                                    {/*timeout_ms=*/600'000, [&asked] { return ++asked > 3; }});
  EXPECT_EQ(stream.status(), absl::CancelledError(address + ": given up"));
  close(fd);
}

TEST(GrpcTransport, AClosedStreamDoesNotWaitForAPeerThatReadsNothing) {
  Peer peer;
  auto log = Log::Discard();
  auto transport = MakeGrpcTransport(
      {.keepalive_ms = 500, .keepalive_timeout_ms = 500, .close_grace_ms = 100}, *log);
  ASSERT_TRUE(transport.ok());
  Client client = ConnectTo(**transport, peer.address());
  peer.Signal(SIGSTOP);
  const std::vector<std::byte> bytes(64 << 20);
  Message message = NumberedMessage(1);
  message.payload = Payload::Borrow(bytes);
  ASSERT_TRUE(client.stream->Send(std::move(message)).ok());
  client.stream->Close();
  EXPECT_FALSE(client.inbox->WaitClosed().ok());
}

// What is not our protocol.

// One call of the generic method by a client that writes what it likes; returns when the server has
// ended it.
class RawClient {
 public:
  explicit RawClient(const std::string& address, const std::string& method = kStreamMethod) {
    auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
    stream_ = grpc::GenericStub(channel).PrepareCall(&context_, method, &cq_);
    stream_->StartCall(this);
    Next();
  }
  ~RawClient() {
    context_.TryCancel();
    grpc::Status status;
    stream_->Finish(&status, this);
    Next();
    cq_.Shutdown();
    void* tag;
    bool ok;
    while (cq_.Next(&tag, &ok)) {
    }
  }
  void Write(const std::string& bytes) {
    const grpc::Slice slice(bytes);
    stream_->Write(grpc::ByteBuffer(&slice, 1), this);
    Next();
  }
  // Whether another message came; false when the server has ended the call.
  bool Read() {
    grpc::ByteBuffer buffer;
    stream_->Read(&buffer, this);
    return Next();
  }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(cq_.Next(&tag, &ok));
    return ok;
  }
  grpc::CompletionQueue cq_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

std::string FrameOf(const Message& message, uint64_t payload_bytes) {
  Header header = message.header;
  header.payload_bytes = payload_bytes;
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) +
         message.payload.Flatten();
}

class HostilePeer : public testing::Test {
 protected:
  // The server still serves.
  void ExpectAlive() {
    Client client = ConnectTo(*transport_, listener_->address());
    EXPECT_TRUE(client.stream->Send(NumberedMessage(1)).ok());
    EXPECT_EQ(client.inbox->WaitFor(1).size(), 1u);
  }

  std::shared_ptr<Transport> transport_ = MakeTransport();
  TestServer server_{[](const std::shared_ptr<Stream>& stream, const Message& message) {
    (void)stream->Send(message);
  }};
  std::unique_ptr<Listener> listener_ =
      *transport_->Listen("127.0.0.1:0", TestHello("ps"), server_.acceptor());
};

TEST_F(HostilePeer, GarbageAsFirstMessageIsClosedAndCounted) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  std::vector<std::string> garbage = {"",
                                      "x",
                                      std::string(64, '\0'),
                                      std::string(1 << 20, 'A'),
                                      FrameOf(NumberedMessage(1, "not a Hello"), 11),
                                      FrameOf(NumberedMessage(1, "short"), ~uint64_t{0})};
  for (int i = 0; i < 10; ++i) {
    std::string bytes(rng() % 500, '\0');
    for (char& c : bytes) c = static_cast<char>(rng());
    garbage.push_back(bytes);
  }
  int64_t expected = 0;
  for (const std::string& bytes : garbage) {
    RawClient client(listener_->address());
    client.Write(bytes);
    EXPECT_FALSE(client.Read());
    EXPECT_EQ(listener_->counters().malformed, ++expected);
  }
  EXPECT_EQ(listener_->counters().accepted, 0);
  ExpectAlive();
}

TEST_F(HostilePeer, AnotherMethodIsClosedAndCounted) {
  RawClient client(listener_->address(), "/some.other.Service/Call");
  EXPECT_FALSE(client.Read());
  EXPECT_EQ(listener_->counters().malformed, 1);
  ExpectAlive();
}

TEST_F(HostilePeer, BytesThatAreNotEvenHttpAreClosed) {
  const std::string& address = listener_->address();
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to = {.sin_family = AF_INET,
                    .sin_port = htons(std::stoi(address.substr(address.rfind(':') + 1)))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  const std::string garbage(1000, 'g');
  EXPECT_EQ(send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL), 1000);
  char buffer[1000];
  while (recv(fd, buffer, sizeof(buffer), 0) > 0) {
  }
  close(fd);
  ExpectAlive();
}

TEST_F(HostilePeer, APeerThatSaysNoHelloIsCutOff) {
  auto log = Log::Discard();
  auto transport = MakeGrpcTransport({.hello_timeout_ms = 50}, *log);
  auto listener = (*transport)->Listen("127.0.0.1:0", TestHello("ps"), server_.acceptor());
  RawClient client((*listener)->address());
  EXPECT_FALSE(client.Read());
}

TEST_F(HostilePeer, ListenersGoAwayWithPeersInTheMiddleOfTheHandshake) {
  RawClient client(listener_->address());
  listener_.reset();
  EXPECT_FALSE(client.Read());
}

TEST(GrpcTransport, TheReasonWhyItCannotListenIsNamed) {
  auto transport = MakeTransport();
  for (const char* address : {"192.0.2.1:0", "nonsense", "127.0.0.1:99999"}) {
    const auto listener = transport->Listen(address, TestHello("ps"), TestServer().acceptor());
    EXPECT_FALSE(listener.ok());
    EXPECT_NE(listener.status().message().find(address), absl::string_view::npos);
  }
  EXPECT_NE(transport->Listen("192.0.2.1:0", TestHello("ps"), TestServer().acceptor())
                .status()
                .message()
                .find("Cannot assign requested address"),
            absl::string_view::npos);
}

TEST(GrpcTransport, OfARangeItTakesPortsThatAreFree) {
  auto transport = MakeTransport();
  TestServer server;
  const auto listen = [&](const std::string& address) {
    return transport->Listen(address, TestHello("ps"), server.acceptor());
  };
  // Three ports in a row, as far as others leave them.
  const int first = 20'000 + getpid() % 10'000;
  const std::string range = fmt::format("127.0.0.1:{}-{}", first, first + 2);
  std::vector<std::unique_ptr<Listener>> listeners;
  std::set<std::string> addresses;
  for (;;) {
    auto listener = listen(range);
    if (!listener.ok()) {
      EXPECT_EQ(listener.status().message(),
                fmt::format("cannot listen on {}: none of these ports is free there", range));
      break;
    }
    EXPECT_TRUE(addresses.insert((*listener)->address()).second);
    listeners.push_back(*std::move(listener));
    ASSERT_LE(listeners.size(), 3u);
  }
  ASSERT_GT(listeners.size(), 0u);
  for (const std::string& address : addresses) {
    const int port = std::stoi(address.substr(address.rfind(':') + 1));
    EXPECT_TRUE(port >= first && port <= first + 2) << address;
  }
  const std::string freed = listeners.back()->address();
  listeners.pop_back();
  EXPECT_EQ((*listen(range))->address(), freed);
  for (const char* wrong : {"127.0.0.1:9-8", "127.0.0.1:1-", "127.0.0.1:1-99999"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(listen(wrong).status())) << wrong;
  }
}

TEST(GrpcTransport, OptionsMustBePositive) {
  auto log = Log::Discard();
  EXPECT_EQ(MakeGrpcTransport({.keepalive_ms = 0}, *log).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The congestion control of every TCP socket of this process that has a peer.
std::vector<std::string> CongestionOfOpenSockets() {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    char name[16] = {};
    socklen_t size = sizeof(name);
    sockaddr_in peer;
    socklen_t peer_size = sizeof(peer);
    const int fd = std::stoi(entry.path().filename());
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0) continue;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0) found.emplace_back(name);
  }
  return found;
}

TEST(GrpcTransport, LoopbackUsesCubicOnBothSides) {
  std::ifstream known("/proc/sys/net/ipv4/tcp_available_congestion_control");
  const std::string names((std::istreambuf_iterator<char>(known)), {});
  if (names.find("cubic") == std::string::npos) {
    GTEST_SKIP() << "this kernel has no cubic, only: " << names;
  }
  auto transport = MakeTransport();
  TestServer server;
  auto listener = *transport->Listen("127.0.0.1:0", TestHello("ps"), server.acceptor());
  Client client = ConnectTo(*transport, listener->address());
  const std::vector<std::string> congestion = CongestionOfOpenSockets();
  ASSERT_EQ(congestion.size(), 2u);
  for (const std::string& name : congestion) EXPECT_EQ(name, "cubic");
}

}  // namespace
}  // namespace muster::rpc
