// Tensors that stay where they lie: memory, regions and the transport over them. Both ends are in
// this process, which maps its own memory a second time, as another process would.
#include "rpc/shared_transport.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "rpc/inproc_transport.h"
#include "rpc/shared_memory.h"
#include "rpc/shared_regions.h"
#include "tests/rpc/transport_suite.h"

namespace muster::rpc {
namespace {

using ::testing::HasSubstr;

// The whole suite, with payloads that are in no shared memory: without rings, so that they take the
// wire, and with rings, which the streams turn to when both ends' memory is known.
struct SharedInproc {
  explicit SharedInproc(std::string ring_service)
      : transport(*MakeSharedTransport(MakeInprocTransport(), *log,
                                       {.ring_service = std::move(ring_service)})) {}
  std::unique_ptr<Log> log = Log::Discard();
  std::unique_ptr<SharedTransport> transport;
};
TransportCase Case(std::string name, const std::string& ring_service) {
  return {std::move(name),
          [ring_service] {
            auto both = std::make_shared<SharedInproc>(ring_service);
            return std::shared_ptr<Transport>(both, both->transport.get());
          },
          "inproc:0"};
}
INSTANTIATE_TEST_SUITE_P(All, TransportTest,
                         testing::Values(Case("Wire", ""),
                                         Case("Ring", TestHello("worker").service)),
                         [](const auto& info) { return info.param.name; });

TEST(SharedMemoryTest, NobodyElseMayWriteItOrChangeItsSize) {
  const auto memory = SharedMemory::Create(8192);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const int fd = (*memory)->fd();
  EXPECT_EQ(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_NE(ftruncate(fd, 4096), 0);
  EXPECT_NE(ftruncate(fd, 16384), 0);
  EXPECT_NE(write(fd, "x", 1), 1);
  const auto seen = SharedMemory::Map(dup(fd), 8192);
  ASSERT_TRUE(seen.ok()) << seen.status();
  (*memory)->bytes()[8191] = std::byte{7};
  EXPECT_EQ((*seen)->bytes()[8191], std::byte{7});
}

TEST(SharedMemoryTest, ADescriptorThatCouldBeCutOffUnderAReaderIsRefused) {
  const int unsealed = memfd_create("test", MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(unsealed, 8192), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(SharedMemory::Map(unsealed, 8192).status()));
  const auto memory = SharedMemory::Create(8192);
  EXPECT_FALSE(SharedMemory::Map(dup((*memory)->fd()), 8193).ok()) << "another size";
  EXPECT_FALSE(SharedMemory::Map(open("/dev/null", O_RDONLY), 8192).ok());
}

class SharedRegionsTest : public testing::Test {
 protected:
  static std::unique_ptr<SharedRegions> Open(Log& log) {
    auto regions = SharedRegions::Open(log);
    EXPECT_TRUE(regions.ok()) << regions.status();
    return *std::move(regions);
  }
  // A stream that the worker opens to the server.
  SharedLink Connect() {
    const SharedLink link = worker_->NewLink();
    EXPECT_TRUE(worker_->Join(link));
    EXPECT_TRUE(server_->Join(link));
    server_->Show(link, worker_->name());
    worker_->Show(link, server_->name());
    return link;
  }
  // Where `bytes` lie, when the other end of `link` has mapped them.
  static SharedRange Await(SharedRegions& regions, const SharedLink& link,
                           std::span<const std::byte> bytes) {
    std::optional<FoundRange> found;
    while (!(found = regions.Find(link, bytes)).has_value()) std::this_thread::yield();
    return found->range;
  }

  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<SharedRegions> worker_ = Open(*log_), server_ = Open(*log_);
};

TEST_F(SharedRegionsTest, MemoryOfBeforeAndAfterTheMeetingIsShown) {
  const auto before = worker_->Allocate(1000);
  const SharedLink link = Connect();
  const auto after = worker_->Allocate(100 << 20);  // beyond a block: a region of its own
  for (const auto& [memory, size] : {std::pair(before, size_t{1000}), {after, size_t{100} << 20}}) {
    const SharedRange range = Await(*worker_, link, {memory.get(), size});
    const auto seen = server_->Resolve(link, range);
    ASSERT_TRUE(seen.ok()) << seen.status();
    const std::span<std::byte> bytes = (*seen)->bytes().subspan(range.offset, range.size);
    EXPECT_EQ(bytes.size(), size);
    EXPECT_NE(bytes.data(), memory.get());
    memory[size - 1] = std::byte{42};
    EXPECT_EQ(bytes[size - 1], std::byte{42});
  }
}

TEST_F(SharedRegionsTest, WhatIsNotSharedHasNoPlace) {
  const auto memory = worker_->Allocate(1000);
  const std::vector<std::byte> heap(1000);
  const SharedLink link = Connect();
  Await(*worker_, link, {memory.get(), 1000});
  EXPECT_FALSE(worker_->Find(link, heap).has_value());
  EXPECT_FALSE(worker_->Find(worker_->NewLink(), {memory.get(), 1000}).has_value());
  // The last bytes of the block, and one more.
  EXPECT_FALSE(worker_->Find(link, {memory.get(), (64 << 20) + 1}).has_value());
}

TEST_F(SharedRegionsTest, APlaceThatIsNotThereIsRefused) {
  const auto memory = worker_->Allocate(1000);
  const SharedLink link = Connect();
  const SharedRange good = Await(*worker_, link, {memory.get(), 1000});
  const auto refused = [&](SharedRange range, const SharedLink& on) {
    const absl::Status status = server_->Resolve(on, range).status();
    return absl::IsInvalidArgument(status);
  };
  EXPECT_FALSE(refused(good, link));
  EXPECT_TRUE(refused(good, {server_->name(), link.number})) << "another's region";
  EXPECT_TRUE(refused({good.region + 1, 0, 1}, link));
  EXPECT_TRUE(refused({good.region, 64 << 20, 1}, link));
  EXPECT_TRUE(refused({good.region, 0, (64 << 20) + 1}, link));
  EXPECT_TRUE(refused({good.region, ~uint64_t{0}, 2}, link)) << "offset + size wraps";
  EXPECT_TRUE(refused({good.region, 2, ~uint64_t{0}}, link));
}

TEST_F(SharedRegionsTest, WithItsStreamWhatWasShownIsForgotten) {
  const auto memory = worker_->Allocate(1000);
  const SharedLink link = Connect();
  ASSERT_TRUE(server_->Join(link)) << "the worker tried twice to connect";
  const SharedRange range = Await(*worker_, link, {memory.get(), 1000});
  const auto seen = server_->Resolve(link, range);
  worker_->Part(link);
  EXPECT_FALSE(worker_->Find(link, {memory.get(), 1000}).has_value());
  server_->Part(link);
  EXPECT_TRUE(server_->Resolve(link, range).ok());
  server_->Part(link);
  EXPECT_FALSE(server_->Resolve(link, range).ok());
  EXPECT_EQ((*seen)->bytes()[range.offset], std::byte{0}) << "who still reads may go on";
}

TEST_F(SharedRegionsTest, AStreamThatOpensWhileAnotherEndsHasAllThatIsShown) {
  const auto memory = worker_->Allocate(1000), answer = server_->Allocate(1000);
  const SharedLink old = Connect();
  Await(*worker_, old, {memory.get(), 1000});
  const SharedRange seen = Await(*server_, old, {answer.get(), 1000});
  worker_->Part(old);  // which the server has not noticed yet
  const SharedLink link = Connect();
  EXPECT_TRUE(server_->Resolve(link, Await(*worker_, link, {memory.get(), 1000})).ok());
  EXPECT_TRUE(worker_->Resolve(link, Await(*server_, link, {answer.get(), 1000})).ok());
  server_->Part(old);
  EXPECT_FALSE(worker_->Resolve(old, seen).ok());
  EXPECT_TRUE(server_->Resolve(link, Await(*worker_, link, {memory.get(), 1000})).ok());
}

TEST_F(SharedRegionsTest, WhatSeveralStreamsShowIsMappedOnce) {
  const auto memory = worker_->Allocate(1000);
  const SharedLink one = Connect(), two = Connect();
  const auto first = server_->Resolve(one, Await(*worker_, one, {memory.get(), 1000}));
  const auto second = server_->Resolve(two, Await(*worker_, two, {memory.get(), 1000}));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
}

TEST_F(SharedRegionsTest, HoweverEndsComeAndGoWhoIsThereHasWhatTheOtherFinds) {
  const uint64_t seed = std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  struct Open {
    SharedLink link;
    bool worker = true, server = true;  // that end is there
  };
  std::vector<Open> open;
  std::vector<std::shared_ptr<std::byte[]>> of_worker, of_server;
  int found = 0;
  const auto check = [&](SharedRegions& sender, SharedRegions& receiver, const SharedLink& link,
                         const std::vector<std::shared_ptr<std::byte[]>>& memories) {
    for (const auto& memory : memories) {
      const auto range = sender.Find(link, {memory.get(), 8});
      if (!range.has_value()) continue;
      ++found;
      EXPECT_TRUE(receiver.Resolve(link, range->range).ok());
    }
  };
  for (int i = 0; i < 3000; ++i) {
    if (rng() % 4 == 0 && open.size() < 8) open.push_back({Connect()});
    if (rng() % 64 == 0) of_worker.push_back(worker_->Allocate(40 << 20));
    if (rng() % 64 == 0) of_server.push_back(server_->Allocate(40 << 20));
    if (rng() % 64 == 0 && !of_worker.empty()) of_worker.erase(of_worker.begin());
    if (rng() % 64 == 0 && !of_server.empty()) of_server.erase(of_server.begin());
    if (open.empty()) continue;
    Open& one = open[rng() % open.size()];
    // Until the last is mapped: those before it are.
    if (rng() % 4 == 0 && one.worker && one.server && !of_worker.empty()) {
      Await(*worker_, one.link, {of_worker.back().get(), 8});
    }
    if (rng() % 6 == 0 && std::exchange(one.worker, false)) worker_->Part(one.link);
    if (rng() % 6 == 0 && std::exchange(one.server, false)) server_->Part(one.link);
    for (const Open& each : open) {
      // An end that is gone sends nothing; one that is there reads what was sent to it.
      if (!each.worker || !each.server) continue;
      check(*worker_, *server_, each.link, of_worker);
      check(*server_, *worker_, each.link, of_server);
    }
    std::erase_if(open, [](const Open& each) { return !each.worker && !each.server; });
  }
  EXPECT_GT(found, 100);
}

TEST_F(SharedRegionsTest, APeerOnAnotherHostIsNotThere) {
  const auto memory = worker_->Allocate(1000);
  const SharedLink away = worker_->NewLink();
  ASSERT_TRUE(worker_->Join(away));
  worker_->Show(away, std::string(32, '0'));
  Await(*worker_, Connect(), {memory.get(), 1000});  // the other letter was handled before
  EXPECT_FALSE(worker_->Find(away, {memory.get(), 1000}).has_value());
  EXPECT_FALSE(worker_->Join({"not a process", 1}));
  EXPECT_FALSE(worker_->Join({std::string(32, '0'), 0}));
}

TEST_F(SharedRegionsTest, StrangeDatagramsChangeNothing) {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = "muster-" + server_->name();
  std::memcpy(address.sun_path + 1, path.data(), path.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  const uint32_t seed = 20261121;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(rng() % 128, '\0');
    for (char& c : bytes) c = static_cast<char>(rng());
    if (bytes.size() >= 8 && i % 2 == 0) std::memcpy(bytes.data(), "MMSHMR02", 8);  // its magic
    iovec range = {bytes.data(), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    msghdr header = {};
    header.msg_name = &address;
    header.msg_namelen = length;
    header.msg_iov = &range;
    header.msg_iovlen = 1;
    if (i % 3 == 0) {  // with descriptors that nobody wants
      header.msg_control = control;
      header.msg_controllen = sizeof(control);
      cmsghdr* part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(2 * sizeof(int));
      const int fds[2] = {fd, fd};
      std::memcpy(CMSG_DATA(part), fds, sizeof(fds));
    }
    ASSERT_GE(sendmsg(fd, &header, 0), 0);
  }
  close(fd);
  const auto memory = worker_->Allocate(1000);
  const SharedLink link = Connect();
  const SharedRange range = Await(*worker_, link, {memory.get(), 1000});
  EXPECT_TRUE(server_->Resolve(link, range).ok());
}

class SharedTransportTest : public testing::Test {
 protected:
  static Hello Named(const char* role) {
    Hello hello;
    hello.role = role;
    return hello;
  }
  // Sends `bytes` until they travelled as a place, and returns what came last.
  Message SendShared(Stream& stream, Inbox& inbox, std::span<const std::byte> bytes) {
    const int64_t before = transport_->shared_bytes();
    while (transport_->shared_bytes() == before) {
      Message message;
      message.header.type = MessageType::kPush;
      message.payload = Payload::Borrow(bytes);
      EXPECT_TRUE(stream.Send(std::move(message)).ok());
      ++sent_;
    }
    return inbox.WaitFor(sent_).back();
  }

  const std::unique_ptr<Log> log_ = Log::Discard();
  std::unique_ptr<Transport> made_ = MakeInprocTransport();
  Transport& inner_ = *made_;
  const std::unique_ptr<SharedTransport> transport_ = *MakeSharedTransport(std::move(made_), *log_);
  size_t sent_ = 0;
};

TEST_F(SharedTransportTest, APayloadInSharedMemoryIsReadWhereItLies) {
  Mutex mu;
  Payload received;  // as it came: an Inbox keeps copies
  TestServer server([&](const std::shared_ptr<Stream>&, const Message& message) {
    MutexLock lock(mu);
    received = message.payload;
  });
  const auto listener = *transport_->Listen("inproc:0", Named("ps"), server.acceptor());
  auto inbox = std::make_shared<Inbox>();
  const auto stream =
      *transport_->Connect(listener->address(), Named("worker"),
                           std::make_unique<RecordingHandler>(inbox), /*timeout_ms=*/60'000);
  constexpr size_t kSize = 1 << 20;
  const auto memory = transport_->Allocate(kSize);
  for (size_t i = 0; i < kSize; ++i) memory[i] = static_cast<std::byte>(i * 7);
  const Message message = SendShared(*stream, *server.Get(0).inbox, {memory.get(), kSize});
  EXPECT_EQ(message.header.type, MessageType::kPush);
  EXPECT_EQ(message.header.flags, 0);
  EXPECT_EQ(message.header.payload_bytes, kSize);
  ASSERT_EQ(message.payload.size(), kSize);
  stream->Close();
  EXPECT_TRUE(inbox->WaitClosed().ok());
  MutexLock lock(mu);
  ASSERT_EQ(received.slices().size(), 1u);
  const std::span<const std::byte> bytes = received.slices()[0].bytes;
  EXPECT_EQ(std::memcmp(bytes.data(), memory.get(), kSize), 0);
  memory[5] = std::byte{99};
  EXPECT_EQ(bytes[5], std::byte{99}) << "it was not copied";
}

TEST_F(SharedTransportTest, ASmallPayloadTakesTheWire) {
  TestServer server;
  const auto listener = *transport_->Listen("inproc:0", Named("ps"), server.acceptor());
  auto inbox = std::make_shared<Inbox>();
  const auto stream =
      *transport_->Connect(listener->address(), Named("worker"),
                           std::make_unique<RecordingHandler>(inbox), /*timeout_ms=*/60'000);
  const auto memory = transport_->Allocate(kLeastSharedBytes);
  SendShared(*stream, *server.Get(0).inbox, {memory.get(), kLeastSharedBytes});
  const int64_t before = transport_->shared_bytes();
  Message message;
  message.header.type = MessageType::kPush;
  message.payload = Payload::Borrow({memory.get(), kLeastSharedBytes - 1});
  ASSERT_TRUE(stream->Send(std::move(message)).ok());
  EXPECT_EQ(server.Get(0).inbox->WaitFor(sent_ + 1).back().payload.size(), kLeastSharedBytes - 1);
  EXPECT_EQ(transport_->shared_bytes(), before);
  stream->Close();
  EXPECT_TRUE(inbox->WaitClosed().ok());
}

// One in-process transport under two shared ones.
class BorrowedTransport : public Transport {
 public:
  explicit BorrowedTransport(Transport& inner) : inner_(inner) {}
  absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                   Acceptor acceptor) override {
    return inner_.Listen(address, std::move(self), std::move(acceptor));
  }
  absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                  std::unique_ptr<StreamHandler> handler,
                                                  rpc::ConnectLimit limit) override {
    return inner_.Connect(address, std::move(self), std::move(handler), std::move(limit));
  }

 private:
  Transport& inner_;
};

// A worker and a server, each with a transport and so a poller of its own, whose messages have
// turned to rings, both ways.
class SharedRingTest : public testing::Test {
 protected:
  SharedRingTest() {
    listener_ = *server_transport_->Listen("inproc:0", Named("ps"), server_.acceptor());
    stream_ = *transport_->Connect(listener_->address(), Named("worker"),
                                   std::make_unique<RecordingHandler>(inbox_),
                                   /*timeout_ms=*/60'000);
    accepted_ = server_.Get(0);
    // Each end turns with a message of its own, once the other's ring is mapped.
    for (int64_t before = 0; before < 2;) {
      Send(*stream_, sent_++);
      Send(*accepted_.stream, answered_++);
      before = (transport_->ring_messages() > 0) + (server_transport_->ring_messages() > 0);
      std::this_thread::yield();
    }
  }
  ~SharedRingTest() override {
    stream_->Close();
    (void)inbox_->WaitClosed();  // the inner transport goes last
    listener_.reset();
  }
  static Hello Named(const char* role) {
    Hello hello;
    hello.role = role;
    hello.service = "params";
    return hello;
  }
  static void Send(Stream& stream, int64_t step, Payload payload = {}, bool flush = true) {
    Message message = NumberedMessage(step);
    message.payload = std::move(payload);
    ASSERT_TRUE((flush ? stream.Send(std::move(message)) : stream.Queue(std::move(message))).ok());
  }
  // Payloads that go each way there is: in the ring, as places, by the wire.
  Payload AnyPayload(std::mt19937_64& rng) {
    const std::byte fill{static_cast<unsigned char>(rng())};
    const auto filled = [fill](const std::shared_ptr<std::byte[]>& memory, size_t size) {
      std::memset(memory.get(), static_cast<int>(fill), size);
      return Payload::Borrow({memory.get(), size}, memory);
    };
    switch (rng() % 8) {
      case 0:
        return filled(transport_->Allocate(4096), 4096);
      case 1:
        return filled(AllocateAligned(100'000), 100'000);
      default:
        return filled(AllocateAligned(300), rng() % 300);
    }
  }

  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<Transport> inner_ = MakeInprocTransport();
  const std::unique_ptr<SharedTransport> transport_ =
      *MakeSharedTransport(std::make_unique<BorrowedTransport>(*inner_), *log_);
  const std::unique_ptr<SharedTransport> server_transport_ =
      *MakeSharedTransport(std::make_unique<BorrowedTransport>(*inner_), *log_);
  // What the server keeps of what it receives.
  Mutex mu_;
  CondVar changed_;
  int64_t received_ ABSL_GUARDED_BY(mu_) = 0;
  bool keep_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Payload> kept_ ABSL_GUARDED_BY(mu_);
  TestServer server_{[this](const std::shared_ptr<Stream>&, const Message& message) {
    MutexLock lock(mu_);
    ++received_;
    changed_.NotifyAll();
    if (keep_) kept_.push_back(message.payload);
  }};
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::shared_ptr<Stream> stream_;
  TestServer::Accepted accepted_;
  int64_t sent_ = 0, answered_ = 0;
};

TEST_F(SharedRingTest, MessagesKeepTheirOrderWhicheverWayTheyGo) {
  const uint64_t seed = std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  const int64_t in_all = 3000 + std::max(sent_, answered_);  // the fixture has sent some
  const auto send = [&](Stream& stream, int64_t first, std::vector<std::string>& sent,
                        uint64_t own_seed) {
    std::mt19937_64 rng(own_seed);
    for (int64_t i = first; i < in_all; ++i) {
      Payload payload = AnyPayload(rng);
      sent.push_back(payload.Flatten());
      Send(stream, i, std::move(payload), /*flush=*/rng() % 4 == 0 || i + 1 == in_all);
    }
  };
  const int64_t first = sent_, first_answer = answered_;
  std::vector<std::string> there, back;
  std::thread worker([&] { send(*stream_, first, there, seed); });
  send(*accepted_.stream, first_answer, back, seed + 1);
  worker.join();
  const auto check = [&](Inbox& inbox, int64_t first_checked,
                         const std::vector<std::string>& sent) {
    const std::vector<Message> messages = inbox.WaitFor(in_all);
    ASSERT_EQ(messages.size(), static_cast<size_t>(in_all));
    for (int64_t i = 0; i < in_all; ++i) {
      const Message& message = messages[static_cast<size_t>(i)];
      ASSERT_EQ(message.header.step, i);
      ASSERT_EQ(message.header.payload_bytes, message.payload.size());
      if (i >= first_checked) {
        ASSERT_EQ(message.payload.Flatten(), sent[static_cast<size_t>(i - first_checked)]) << i;
      }
    }
  };
  check(*accepted_.inbox, first, there);
  check(*inbox_, first_answer, back);
  EXPECT_GE(transport_->ring_messages(), in_all - first);
  EXPECT_GE(server_transport_->ring_messages(), in_all - first_answer);
  stream_->Close();
  EXPECT_TRUE(inbox_->WaitClosed().ok());
}

TEST_F(SharedRingTest, WhatIsLentIsTheBorrowersUntilItDropsIt) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  constexpr int kLoans = 300;
  constexpr size_t kSize = 100'000;  // too much for the ring
  {
    MutexLock lock(mu_);
    while (received_ < sent_) changed_.Wait(mu_);  // what was sent before is not lent
    keep_ = true;
  }
  std::atomic<int> out = 0;
  const auto lend = [&](const std::shared_ptr<std::byte[]>& memory) {
    ++out;
    return Payload::Lend(
        {memory.get(), kSize},
        std::shared_ptr<const void>(memory.get(), [&, memory](const void*) { --out; }));
  };
  const int64_t places = transport_->shared_bytes();
  for (int i = 0; i < kLoans; ++i) {
    const auto memory = transport_->Allocate(kSize);
    std::memset(memory.get(), i, kSize);
    Send(*stream_, sent_++, lend(memory));
    MutexLock lock(mu_);
    while (received_ < sent_) changed_.Wait(mu_);
    ASSERT_FALSE(kept_.empty());
    const std::span<const std::byte> bytes = kept_.back().slices().front().bytes;
    EXPECT_EQ(bytes[7], static_cast<std::byte>(i));
    memory[7] = std::byte{99};
    EXPECT_EQ(bytes[7], std::byte{99}) << "it was not copied";
    EXPECT_GE(out, static_cast<int>(kept_.size()));
    if (rng() % 3 == 0)
      kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(rng() % kept_.size()));
    if (rng() % 50 == 0) kept_.clear();
  }
  EXPECT_GE(transport_->shared_bytes() - places, int64_t{kLoans} * int64_t{kSize});
  const auto await = [&](int left) {
    while (out != left) {
      Send(*accepted_.stream, answered_++);  // with which what was returned comes along
      std::this_thread::yield();
    }
  };
  int left = 0;
  {
    MutexLock lock(mu_);
    kept_.resize(std::min<size_t>(kept_.size(), 3));
    left = static_cast<int>(kept_.size());
  }
  await(left);
  // Nobody returns what is lent at the end of the stream.
  stream_->Close();
  EXPECT_TRUE(inbox_->WaitClosed().ok());
  EXPECT_EQ(out, 0);
  EXPECT_TRUE(accepted_.inbox->WaitClosed().ok());
  MutexLock lock(mu_);
  kept_.clear();
}

TEST_F(SharedRingTest, WhatFindsNoRoomFollowsWhenThereIsSome) {
  // More than the ring holds, and nothing is sent afterwards that would push it.
  constexpr int64_t kMessages = 20'000;
  for (int64_t i = sent_; i < kMessages; ++i) {
    Send(*stream_, i, Payload::Own(std::string(200, 'x')), /*flush=*/i + 1 == kMessages);
  }
  EXPECT_EQ(accepted_.inbox->WaitFor(kMessages).back().header.step, kMessages - 1);
  stream_->Close();
  EXPECT_TRUE(inbox_->WaitClosed().ok());
}

TEST_F(SharedRingTest, WhatIsQueuedWhenTheRingIsFullArrivesBeforeTheClose) {
  // More than the ring holds, while its reader is kept busy.
  constexpr int64_t kMessages = 20'000;
  for (int64_t i = sent_; i < kMessages; ++i) {
    Send(*stream_, i, Payload::Own(std::string(200, 'x')), /*flush=*/false);
  }
  stream_->Close(absl::AbortedError("enough"));
  EXPECT_TRUE(absl::IsAborted(accepted_.inbox->WaitClosed()));
  const std::vector<Message> messages = accepted_.inbox->WaitFor(kMessages);
  ASSERT_EQ(messages.size(), static_cast<size_t>(kMessages));
  for (int64_t i = 0; i < kMessages; ++i) {
    ASSERT_EQ(messages[static_cast<size_t>(i)].header.step, i);
  }
  EXPECT_TRUE(absl::IsAborted(inbox_->WaitClosed()));
}

TEST_F(SharedRingTest, AnEndThatClosedHearsNothingMore) {
  accepted_.stream->Close();
  const size_t before = accepted_.inbox->size();
  stream_->Send(NumberedMessage(sent_)).IgnoreError();
  EXPECT_TRUE(inbox_->WaitClosed().ok());
  EXPECT_TRUE(accepted_.inbox->WaitClosed().ok());
  EXPECT_EQ(accepted_.inbox->size(), before);
  EXPECT_FALSE(stream_->Send(NumberedMessage(sent_)).ok());
}

TEST_F(SharedTransportTest, NotesThatMakeNoSenseEndTheStream) {
  TestServer server;
  const auto listener = *transport_->Listen("inproc:0", Named("ps"), server.acceptor());
  for (const uint16_t code : {0, 1, 2, 3}) {  // of which 1 offers a ring and 2 turns to it
    auto inbox = std::make_shared<Inbox>();
    const auto stream = *inner_.Connect(listener->address(), Named("worker"),
                                        std::make_unique<RecordingHandler>(inbox),
                                        /*timeout_ms=*/60'000);
    Message message;
    message.header.flags = kRingNote;
    message.header.code = code;
    message.payload = Payload::Own(std::string(32 + 24, '\x01'));
    ASSERT_TRUE(stream->Send(std::move(message)).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(inbox->WaitClosed()));
  }
}

TEST_F(SharedTransportTest, APlaceThatIsNotThereEndsTheStream) {
  TestServer server;
  const auto listener = *transport_->Listen("inproc:0", Named("ps"), server.acceptor());
  for (const std::string& text :
       {std::string(), std::string(31, 'x'), std::string(33, 'x'), std::string(32 + 24, '\xff')}) {
    auto inbox = std::make_shared<Inbox>();
    const auto stream =  // of a peer that speaks below the sharing layer
        *inner_.Connect(listener->address(), Named("worker"),
                        std::make_unique<RecordingHandler>(inbox), /*timeout_ms=*/60'000);
    Message message;
    message.header.type = MessageType::kPush;
    message.header.flags = kSharedPayload;
    message.payload = Payload::Own(text);
    ASSERT_TRUE(stream->Send(std::move(message)).ok());
    const absl::Status closed = inbox->WaitClosed();
    EXPECT_TRUE(absl::IsInvalidArgument(closed)) << closed;
    EXPECT_THAT(std::string(closed.message()), HasSubstr("a message points at"));
  }
}

}  // namespace
}  // namespace muster::rpc
