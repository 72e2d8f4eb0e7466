#include "tests/rpc/transport_suite.h"

#include <sys/mman.h>

#include <atomic>
#include <numeric>
#include <set>
#include <thread>

namespace muster::rpc {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TransportTest);

namespace {

void Echo(const std::shared_ptr<Stream>& stream, const Message& message) {
  EXPECT_TRUE(stream->Send(message).ok());
}

std::vector<std::byte> Pattern(size_t size, int key) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251 + key);
  return bytes;
}

// Memory that faults when it is read after Forget.
class Mapping {
 public:
  explicit Mapping(size_t size) : size_(size) {
    data_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(data_, MAP_FAILED);
    std::memset(data_, 7, size);
  }
  ~Mapping() { Forget(); }
  void Forget() {
    if (data_ != nullptr) munmap(data_, size_);
    data_ = nullptr;
  }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  const size_t size_;
  void* data_;
};

}  // namespace

TEST_P(TransportTest, MessagesArriveInOrderEachOnceWithTheirHeader) {
  TestServer server(Echo);
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  constexpr int kMessages = 2000;
  for (int i = 0; i < kMessages; ++i) {
    Message message = NumberedMessage(i, std::string(i % 97, 'a' + i % 26));
    message.header.type = MessageType::kPush;
    message.header.slice = 5 * i;
    message.header.flags = kWantParams;
    ASSERT_TRUE(client.stream->Send(std::move(message)).ok());
  }
  const std::vector<Message> echoed = client.inbox->WaitFor(kMessages);
  ASSERT_EQ(echoed.size(), kMessages);
  for (int i = 0; i < kMessages; ++i) {
    EXPECT_EQ(echoed[i].header.step, i);
    EXPECT_EQ(echoed[i].header.slice, static_cast<uint32_t>(5 * i));
    EXPECT_EQ(echoed[i].header.type, MessageType::kPush);
    EXPECT_EQ(echoed[i].header.flags, kWantParams);
    EXPECT_EQ(echoed[i].header.payload_bytes, static_cast<uint64_t>(i % 97));
    ASSERT_EQ(echoed[i].payload.Flatten(), std::string(i % 97, 'a' + i % 26));
  }
}

TEST_P(TransportTest, QueuedMessagesKeepTheirPlaceAndGoWithTheNextFlushSendOrClose) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  const auto inbox = server.Get(0).inbox;
  ASSERT_TRUE(client.stream->Queue(NumberedMessage(0)).ok());
  ASSERT_TRUE(client.stream->Queue(NumberedMessage(1)).ok());
  client.stream->Flush();
  ASSERT_EQ(inbox->WaitFor(2).size(), 2U);
  ASSERT_TRUE(client.stream->Queue(NumberedMessage(2)).ok());
  ASSERT_TRUE(client.stream->Send(NumberedMessage(3)).ok());
  ASSERT_EQ(inbox->WaitFor(4).size(), 4U);
  ASSERT_TRUE(client.stream->Queue(NumberedMessage(4)).ok());
  client.stream->Close();
  const std::vector<Message> all = inbox->WaitFor(5);
  ASSERT_EQ(all.size(), 5U);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(all[i].header.step, i);
}

TEST_P(TransportTest, EachEndKnowsWhoTheOtherIs) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener, nullptr, 3);
  EXPECT_EQ(client.stream->peer().role, "ps");
  EXPECT_EQ(server.Get(0).stream->peer().role, "worker");
  EXPECT_EQ(server.Get(0).stream->peer().index, 3);
  EXPECT_EQ(server.Get(0).stream->peer().service, "control");
  EXPECT_EQ(listener->counters().accepted, 1);
}

TEST_P(TransportTest, LargePayloadsOfManyRangesArriveWholeBothWays) {
  TestServer server(Echo);
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  constexpr size_t kSize = 16 << 20;
  for (int key = 0; key < 3; ++key) {
    const std::vector<std::byte> bytes = Pattern(kSize, key);
    // Uneven cuts, empty ranges among them.
    Message message = NumberedMessage(key);
    size_t begin = 0;
    for (const size_t cut : {size_t{0}, size_t{1}, size_t{1}, size_t{4097}, kSize / 3, kSize}) {
      message.payload.Append({std::span(bytes).subspan(begin, cut - begin), nullptr});
      begin = cut;
    }
    ASSERT_TRUE(client.stream->Send(std::move(message)).ok());
    const Message echoed = client.inbox->WaitFor(key + 1)[key];
    ASSERT_EQ(echoed.payload.size(), kSize);
    std::vector<std::byte> received(kSize);
    echoed.payload.CopyTo(received.data());
    EXPECT_TRUE(received == bytes);
  }
}

TEST_P(TransportTest, BothEndsMaySendAtOnceFromManyThreads) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  const TestServer::Accepted accepted = server.Get(0);
  constexpr int kThreads = 4, kMessages = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    Stream& stream = t % 2 == 0 ? *client.stream : *accepted.stream;
    threads.emplace_back([&stream, t] {
      for (int i = 0; i < kMessages; ++i) {
        Message message = NumberedMessage(i, std::string(i, 'x'));
        message.header.replica = t;
        EXPECT_TRUE(stream.Send(std::move(message)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (Inbox* inbox : {client.inbox.get(), accepted.inbox.get()}) {
    std::vector<int64_t> next(kThreads, 0);
    for (const Message& message : inbox->WaitFor(kMessages * kThreads / 2)) {
      EXPECT_EQ(message.header.step, next[message.header.replica]++);
    }
    EXPECT_EQ(std::accumulate(next.begin(), next.end(), int64_t{0}), kMessages * kThreads / 2);
  }
}

TEST_P(TransportTest, ManyStreamsAreIndependent) {
  TestServer server(Echo);
  auto listener = Listen(server.acceptor());
  constexpr int kStreams = 24, kMessages = 50;
  std::vector<Client> clients;
  for (int c = 0; c < kStreams; ++c) clients.push_back(Connect(*listener, nullptr, c));
  for (int i = 0; i < kMessages; ++i) {
    for (int c = 0; c < kStreams; ++c) {
      ASSERT_TRUE(clients[c].stream->Send(NumberedMessage(i, std::to_string(c))).ok());
    }
  }
  for (int c = 0; c < kStreams; ++c) {
    const std::vector<Message> echoed = clients[c].inbox->WaitFor(kMessages);
    ASSERT_EQ(echoed.size(), kMessages);
    for (int i = 0; i < kMessages; ++i) {
      EXPECT_EQ(echoed[i].header.step, i);
      EXPECT_EQ(echoed[i].payload.Flatten(), std::to_string(c));
    }
    if (c % 2 == 0) clients[c].stream->Close();
  }
  EXPECT_TRUE(clients[1].stream->Send(NumberedMessage(kMessages)).ok());
  EXPECT_EQ(clients[1].inbox->WaitFor(kMessages + 1).size(), kMessages + 1u);
}

TEST_P(TransportTest, HandlerCallsNeverOverlapNorComeFromInsideSendOfTheSameEnd) {
  std::atomic<int> inside = 0;
  Mutex mu;
  std::multiset<std::thread::id> sending;  // threads within client.stream->Send
  TestServer server(Echo);
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener, [&](const Message&) {
    EXPECT_EQ(inside.fetch_add(1), 0);
    {
      MutexLock lock(mu);
      EXPECT_EQ(sending.count(std::this_thread::get_id()), 0u);
    }
    inside.fetch_sub(1);
  });
  constexpr int kThreads = 3, kMessages = 300;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const auto self = std::this_thread::get_id();
      for (int i = 0; i < kMessages; ++i) {
        {
          MutexLock lock(mu);
          sending.insert(self);
        }
        EXPECT_TRUE(client.stream->Send(NumberedMessage(i)).ok());
        MutexLock lock(mu);
        sending.erase(sending.find(self));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(client.inbox->WaitFor(kThreads * kMessages).size(), size_t{kThreads * kMessages});
  client.stream->Close();
  client.inbox->WaitDestroyed();
}

TEST_P(TransportTest, WhatTheAcceptorSendsArrivesFirst) {
  auto inbox = std::make_shared<Inbox>();
  auto listener =
      Listen([&](const Hello&,
                 std::shared_ptr<Stream> stream) -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
        EXPECT_TRUE(stream->Send(NumberedMessage(1, "welcome")).ok());
        EXPECT_TRUE(stream->Send(NumberedMessage(2)).ok());
        return std::make_unique<RecordingHandler>(inbox);
      });
  Client client = Connect(*listener);
  EXPECT_TRUE(client.stream->Send(NumberedMessage(3)).ok());
  const std::vector<Message> messages = client.inbox->WaitFor(2);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].payload.Flatten(), "welcome");
  EXPECT_EQ(inbox->WaitFor(1).size(), 1u);
}

TEST_P(TransportTest, CloseComesAfterWhatWasQueued) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  constexpr int kMessages = 200;
  const std::vector<std::byte> bytes = Pattern(100'000, 1);
  for (int i = 0; i < kMessages; ++i) {
    Message message = NumberedMessage(i);
    message.payload = Payload::Borrow(bytes);
    ASSERT_TRUE(client.stream->Send(std::move(message)).ok());
  }
  client.stream->Close();
  client.stream->Close(absl::InternalError("only the first Close counts"));
  const TestServer::Accepted accepted = server.Get(0);
  EXPECT_TRUE(accepted.inbox->WaitClosed().ok()) << accepted.inbox->WaitClosed();
  EXPECT_EQ(accepted.inbox->size(), size_t{kMessages});
  accepted.inbox->Clear();
  EXPECT_TRUE(client.inbox->WaitClosed().ok()) << client.inbox->WaitClosed();
  EXPECT_FALSE(client.stream->Send(NumberedMessage(0)).ok());
  EXPECT_FALSE(accepted.stream->Send(NumberedMessage(0)).ok());
}

TEST_P(TransportTest, AStatusGivenToCloseReachesThePeer) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  for (int i = 0; i < 2; ++i) {
    Client client = Connect(*listener);
    const TestServer::Accepted accepted = server.Get(i);
    const bool client_closes = i == 0;
    (client_closes ? client.stream : accepted.stream)
        ->Close(absl::AbortedError("the disk is full"));
    for (Inbox* inbox : {client.inbox.get(), accepted.inbox.get()}) {
      EXPECT_EQ(inbox->WaitClosed().code(), absl::StatusCode::kAborted);
      EXPECT_EQ(inbox->WaitClosed().message(), "the disk is full");
    }
    EXPECT_EQ(client.stream->Send(NumberedMessage(0)).code(), absl::StatusCode::kAborted);
  }
}

TEST_P(TransportTest, OnClosedIsCalledOnceWhenBothEndsCloseAtOnce) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  for (int i = 0; i < 50; ++i) {
    Client client = Connect(*listener);
    const TestServer::Accepted accepted = server.Get(i);
    std::thread other([&] { accepted.stream->Close(); });
    client.stream->Close();
    other.join();
    client.inbox->WaitDestroyed();
    accepted.inbox->WaitDestroyed();
    EXPECT_TRUE(client.inbox->WaitClosed().ok()) << client.inbox->WaitClosed();
    EXPECT_TRUE(accepted.inbox->WaitClosed().ok()) << accepted.inbox->WaitClosed();
    EXPECT_EQ(client.inbox->closed_calls(), 1);
    EXPECT_EQ(accepted.inbox->closed_calls(), 1);
  }
}

TEST_P(TransportTest, AHandlerMayCloseItsStream) {
  TestServer server([](const std::shared_ptr<Stream>& stream, const Message& message) {
    if (message.header.step == 3) stream->Close();
  });
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  for (int i = 0; i < 10; ++i) (void)client.stream->Send(NumberedMessage(i));
  EXPECT_TRUE(client.inbox->WaitClosed().ok()) << client.inbox->WaitClosed();
  const TestServer::Accepted accepted = server.Get(0);
  EXPECT_TRUE(accepted.inbox->WaitClosed().ok()) << accepted.inbox->WaitClosed();
  EXPECT_EQ(accepted.inbox->size(), 4u);
}

TEST_P(TransportTest, AHandlerMayDropTheLastReferenceToItsStream) {
  TestServer server(Echo);
  auto listener = Listen(server.acceptor());
  std::shared_ptr<Stream> held;
  std::atomic<bool> assigned = false;
  auto inbox = std::make_shared<Inbox>();
  auto handler = std::make_unique<RecordingHandler>(inbox, [&](const Message&) {
    if (assigned) held.reset();
  });
  held = *transport_->Connect(listener->address(), TestHello("worker"), std::move(handler),
                              kTimeoutMs);
  const std::shared_ptr<Stream> server_end = server.Get(0).stream;
  assigned = true;
  EXPECT_TRUE(server_end->Send(NumberedMessage(1)).ok());
  EXPECT_TRUE(inbox->WaitClosed().ok()) << inbox->WaitClosed();
  EXPECT_TRUE(server.Get(0).inbox->WaitClosed().ok());
}

TEST_P(TransportTest, DroppingTheConnectedStreamClosesIt) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  client.stream.reset();
  EXPECT_TRUE(client.inbox->WaitClosed().ok()) << client.inbox->WaitClosed();
  EXPECT_TRUE(server.Get(0).inbox->WaitClosed().ok()) << server.Get(0).inbox->WaitClosed();
}

TEST_P(TransportTest, DestroyingTheListenerClosesItsStreamsAfterWhatWasQueued) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  std::vector<Client> clients;
  constexpr int kStreams = 5, kMessages = 20;
  for (int c = 0; c < kStreams; ++c) clients.push_back(Connect(*listener, nullptr, c));
  for (int c = 0; c < kStreams; ++c) {
    for (int i = 0; i < kMessages; ++i) {
      EXPECT_TRUE(server.Get(c).stream->Send(NumberedMessage(i, std::string(10'000, 'q'))).ok());
    }
  }
  listener.reset();
  for (int c = 0; c < kStreams; ++c) {
    EXPECT_EQ(server.Get(c).inbox->closed_calls(), 1);
    EXPECT_TRUE(clients[c].inbox->WaitClosed().ok()) << clients[c].inbox->WaitClosed();
    EXPECT_EQ(clients[c].inbox->size(), size_t{kMessages});
    EXPECT_FALSE(clients[c].stream->Send(NumberedMessage(0)).ok());
  }
}

TEST_P(TransportTest, PeersOfAnotherBuildProtocolOrJobAreRefused) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  const auto refusal = [&](const Hello& hello) {
    auto inbox = std::make_shared<Inbox>();
    const auto stream = transport_->Connect(listener->address(), hello,
                                            std::make_unique<RecordingHandler>(inbox), kTimeoutMs);
    inbox->WaitDestroyed();
    EXPECT_EQ(inbox->closed_calls(), 0) << "a refused handler is not called";
    return stream.status();
  };
  Hello other_build = TestHello("worker", 2);
  other_build.build_id = "yesterday";
  EXPECT_EQ(refusal(other_build).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(refusal(other_build).message().find("yesterday"), absl::string_view::npos);
  EXPECT_NE(refusal(other_build).message().find("test-build"), absl::string_view::npos);
  EXPECT_NE(refusal(other_build).message().find("worker-2"), absl::string_view::npos);

  Hello other_protocol = TestHello("worker");
  other_protocol.protocol_version = kProtocolVersion + 1;
  EXPECT_EQ(refusal(other_protocol).code(), absl::StatusCode::kFailedPrecondition);

  Hello other_token = TestHello("worker");
  other_token.job_token = "guess";
  EXPECT_EQ(refusal(other_token).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(refusal(other_token).message().find("test-token"), absl::string_view::npos);
  EXPECT_EQ(listener->counters().refused, 7);
  EXPECT_EQ(listener->counters().accepted, 0);
}

TEST_P(TransportTest, TheAcceptorsRefusalIsReadByThePeer) {
  auto listener =
      Listen([](const Hello& peer,
                std::shared_ptr<Stream>) -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
        return absl::ResourceExhaustedError("no place for " + peer.role);
      });
  const auto stream = transport_->Connect(
      listener->address(), TestHello("worker"),
      std::make_unique<RecordingHandler>(std::make_shared<Inbox>()), kTimeoutMs);
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(stream.status().message().find("no place for worker"), absl::string_view::npos);
  EXPECT_EQ(listener->counters().refused, 1);
}

TEST_P(TransportTest, ConnectWaitsUntilSomebodyListensOrItsTimeIsOver) {
  TestServer server;
  const std::string address = Listen(server.acceptor())->address();
  const auto nobody =
      transport_->Connect(address, TestHello("worker"),
                          std::make_unique<RecordingHandler>(std::make_shared<Inbox>()), 50);
  EXPECT_TRUE(nobody.status().code() == absl::StatusCode::kUnavailable ||
              nobody.status().code() == absl::StatusCode::kDeadlineExceeded)
      << nobody.status();
  EXPECT_NE(nobody.status().message().find(address), absl::string_view::npos);

  std::thread late([&] {
    const auto stream = transport_->Connect(
        address, TestHello("worker"), std::make_unique<RecordingHandler>(std::make_shared<Inbox>()),
        kTimeoutMs);
    EXPECT_TRUE(stream.ok()) << stream.status();
  });
  auto listener = transport_->Listen(address, TestHello("ps"), server.acceptor());
  ASSERT_TRUE(listener.ok()) << listener.status();
  late.join();
  EXPECT_EQ((*listener)->counters().accepted, 1);
}

TEST_P(TransportTest, ConnectEndsWhenItIsGivenUp) {
  TestServer server;
  const std::string address = Listen(server.acceptor())->address();
  int asked = 0;
  const auto stream = transport_->Connect(
      address, TestHello("worker"), std::make_unique<RecordingHandler>(std::make_shared<Inbox>()),
      {kTimeoutMs, [&asked] { return ++asked > 3; }});
  EXPECT_EQ(stream.status(), absl::CancelledError(address + ": given up"));
}

TEST_P(TransportTest, AnAddressInUseIsRefused) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  const auto second = transport_->Listen(listener->address(), TestHello("ps"), server.acceptor());
  EXPECT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find(listener->address()), absl::string_view::npos);
}

TEST_P(TransportTest, OnlyTransportsSendTransportMessages) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  for (const MessageType type : {MessageType::kHello, MessageType::kClose}) {
    Message message;
    message.header.type = type;
    EXPECT_EQ(client.stream->Send(std::move(message)).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(TransportTest, AnOwnerIsDroppedOnceAndNotBeforeTheBytesArrived) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  constexpr int kMessages = 16;
  constexpr size_t kSize = 1 << 20;
  std::vector<std::atomic<int>> dropped(kMessages);
  std::vector<std::vector<std::byte>> buffers;
  for (int i = 0; i < kMessages; ++i) buffers.push_back(Pattern(kSize, i));
  Client client = Connect(*listener);
  for (int i = 0; i < kMessages; ++i) {
    // The deleter destroys what it owned: a byte that is sent or read later is seen below.
    std::shared_ptr<const void> owner(&buffers[i], [&dropped, &buffers, i](const void*) {
      std::memset(buffers[i].data(), 0xee, kSize);
      ++dropped[i];
    });
    Message message = NumberedMessage(i);
    message.payload = Payload::Borrow(buffers[i], std::move(owner));
    ASSERT_TRUE(client.stream->Send(std::move(message)).ok());
  }
  client.stream->Close();
  const TestServer::Accepted accepted = server.Get(0);
  EXPECT_TRUE(accepted.inbox->WaitClosed().ok());
  std::vector<std::byte> received(kSize);
  for (const Message& message : accepted.inbox->WaitFor(kMessages)) {
    message.payload.CopyTo(received.data());
    EXPECT_TRUE(received == Pattern(kSize, message.header.step));
  }
  EXPECT_EQ(accepted.inbox->size(), size_t{kMessages});
  accepted.inbox->Clear();
  client.inbox->WaitDestroyed();
  client.stream.reset();
  listener.reset();
  transport_.reset();
  for (int i = 0; i < kMessages; ++i) EXPECT_EQ(dropped[i], 1) << i;
}

TEST_P(TransportTest, BorrowedMemoryIsFreeOnceOnClosedWasCalled) {
  // A sender whose peer goes away while much is under way unmaps its memory the moment it is told
  // so.
  for (const bool client_sends : {true, false}) {
    TestServer server;
    auto listener = Listen(server.acceptor());
    Client client = Connect(*listener);
    const TestServer::Accepted accepted = server.Get(0);
    Mapping mapping(1 << 20);
    Stream& sender = client_sends ? *client.stream : *accepted.stream;
    Stream& receiver = client_sends ? *accepted.stream : *client.stream;
    Inbox& sender_inbox = client_sends ? *client.inbox : *accepted.inbox;
    Inbox& receiver_inbox = client_sends ? *accepted.inbox : *client.inbox;
    for (int i = 0; i < 64; ++i) {
      Message message = NumberedMessage(i);
      message.payload = Payload::Borrow(mapping.bytes());
      ASSERT_TRUE(sender.Send(std::move(message)).ok());
    }
    receiver.Close(absl::AbortedError("gone"));
    (void)receiver_inbox.WaitClosed();
    for (const Message& message : receiver_inbox.WaitFor(0)) {
      EXPECT_EQ(message.payload.Flatten(), std::string(1 << 20, 7));
    }
    receiver_inbox.Clear();
    EXPECT_EQ(sender_inbox.WaitClosed().code(), absl::StatusCode::kAborted)
        << sender_inbox.WaitClosed();
    mapping.Forget();
  }
}

TEST_P(TransportTest, AStreamHeldLongerThanItsTransportIsClosed) {
  TestServer server;
  auto listener = Listen(server.acceptor());
  Client client = Connect(*listener);
  const TestServer::Accepted accepted = server.Get(0);
  listener.reset();
  transport_.reset();
  EXPECT_EQ(client.inbox->closed_calls(), 1);
  EXPECT_FALSE(client.stream->Send(NumberedMessage(1)).ok());
  EXPECT_FALSE(accepted.stream->Send(NumberedMessage(1)).ok());
  client.stream->Close();
}

}  // namespace muster::rpc
