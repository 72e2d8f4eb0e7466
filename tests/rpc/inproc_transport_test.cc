#include "rpc/inproc_transport.h"

#include <thread>

#include "tests/harness/delay_transport.h"
#include "tests/rpc/transport_suite.h"

namespace muster::rpc {
namespace {

// A DelayTransport and the transport below it, as one.
struct DelayedInproc {
  std::unique_ptr<Transport> inner = MakeInprocTransport();
  std::unique_ptr<Transport> delayed = harness::MakeDelayTransport(
      *inner, {.seed = 20261121, .max_delay_us = 200, .rare_delay_us = 2'000});
};

INSTANTIATE_TEST_SUITE_P(
    All, TransportTest,
    testing::Values(TransportCase{"Inproc",
                                  [] { return std::shared_ptr<Transport>(MakeInprocTransport()); },
                                  "inproc:0"},
                    TransportCase{"DelayedInproc",
                                  [] {
                                    auto both = std::make_shared<DelayedInproc>();
                                    return std::shared_ptr<Transport>(both, both->delayed.get());
                                  },
                                  "inproc:0"}),
    [](const auto& info) { return info.param.name; });

class Handler : public StreamHandler {
 public:
  explicit Handler(std::function<void(const Message&)> on_message)
      : on_message_(std::move(on_message)) {}
  void OnMessage(Message message) override { on_message_(message); }
  void OnClosed(absl::Status) override {}

 private:
  const std::function<void(const Message&)> on_message_;
};

TEST(InprocTransport, AMessageCostsAFunctionCall) {
  auto transport = MakeInprocTransport();
  std::thread::id delivered_by;
  const void* delivered = nullptr;
  auto listener = transport->Listen(
      "inproc:0", TestHello("ps"),
      [&](const Hello&, std::shared_ptr<Stream>) -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
        return std::make_unique<Handler>([&](const Message& message) {
          delivered_by = std::this_thread::get_id();
          delivered = message.payload.slices()[0].bytes.data();
        });
      });
  auto stream = transport->Connect((*listener)->address(), TestHello("worker"),
                                   std::make_unique<Handler>([](const Message&) {}), 1'000);
  const std::vector<std::byte> bytes(100);
  Message message;
  message.payload = Payload::Borrow(bytes);
  ASSERT_TRUE((*stream)->Send(std::move(message)).ok());
  EXPECT_EQ(delivered_by, std::this_thread::get_id());
  EXPECT_EQ(delivered, bytes.data()) << "payloads are passed as they are";
}

TEST(InprocTransport, ABorrowedPayloadThatThePeerKeepsHoldsBackOnClosed) {
  auto transport = MakeInprocTransport();
  std::optional<Payload> kept;
  auto inbox = std::make_shared<Inbox>();
  auto server_inbox = std::make_shared<Inbox>();
  auto listener = transport->Listen(
      "inproc:0", TestHello("ps"),
      [&](const Hello&, std::shared_ptr<Stream>) -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
        return std::make_unique<RecordingHandler>(server_inbox, [&](const Message& message) {
          kept = message.payload;
          server_inbox->Clear();
        });
      });
  auto stream = transport->Connect((*listener)->address(), TestHello("worker"),
                                   std::make_unique<RecordingHandler>(inbox), 1'000);
  const std::vector<std::byte> bytes(100);
  Message message;
  message.payload = Payload::Borrow(bytes);
  ASSERT_TRUE((*stream)->Send(std::move(message)).ok());
  (*stream)->Close();
  EXPECT_TRUE(server_inbox->WaitClosed().ok());
  EXPECT_EQ(inbox->closed_calls(), 0);
  kept.reset();
  EXPECT_TRUE(inbox->WaitClosed().ok());
}

}  // namespace
}  // namespace muster::rpc
