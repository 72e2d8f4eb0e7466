#include "rpc/framing.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace muster::rpc {
namespace {

// The bytes of `messages` as a transport would put them, cut into ranges of random sizes.
std::string Bytes(const std::vector<Message>& messages) {
  std::string bytes;
  for (const Message& message : messages) {
    Header header = message.header;
    header.payload_bytes = message.payload.size();
    bytes.append(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes += message.payload.Flatten();
  }
  return bytes;
}

Payload Cut(std::string bytes, std::mt19937_64& rng) {
  auto owner = std::make_shared<const std::string>(std::move(bytes));
  const auto all = std::as_bytes(std::span(*owner));
  Payload payload;
  for (size_t begin = 0; begin < all.size();) {
    const size_t size = std::min<size_t>(rng() % 100, all.size() - begin);  // empty ranges too
    payload.Append({all.subspan(begin, size), owner});
    begin += size;
  }
  return payload;
}

Message Text(MessageType type, int64_t step, std::string text) {
  Message message;
  message.header.type = type;
  message.header.step = step;
  message.payload = Payload::Own(std::move(text));
  return message;
}

TEST(Framing, FramesComeBackHoweverTheBytesAreCut) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<Message> messages;
    for (size_t i = 0; i < 1 + rng() % 5; ++i) {
      messages.push_back(
          Text(MessageType::kPush, static_cast<int64_t>(rng()), std::string(rng() % 300, 'p')));
    }
    const auto parsed = ParseFrames(Cut(Bytes(messages), rng));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(parsed->size(), messages.size());
    for (size_t i = 0; i < messages.size(); ++i) {
      EXPECT_EQ((*parsed)[i].header.step, messages[i].header.step);
      EXPECT_EQ((*parsed)[i].payload.Flatten(), messages[i].payload.Flatten());
    }
  }
}

TEST(Framing, PayloadsShareTheOwnerAndTheBytes) {
  std::mt19937_64 rng(1);
  const Payload bytes = Cut(Bytes({Text(MessageType::kPush, 1, std::string(50, 'x'))}), rng);
  const auto parsed = ParseFrames(bytes);
  ASSERT_TRUE(parsed.ok());
  for (const Payload::Slice& slice : parsed->front().payload.slices()) {
    EXPECT_EQ(slice.owner, bytes.slices().front().owner);
  }
}

TEST(Framing, WhatIsNotOursIsRefused) {
  const std::string good = Bytes({Text(MessageType::kPush, 1, "abc")});
  const auto refuse = [](std::string bytes) {
    const auto parsed = ParseFrames(Payload::Own(std::move(bytes)));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(parsed.status().message());
  };
  EXPECT_NE(refuse("").find("0 bytes where a header"), std::string::npos);
  EXPECT_NE(refuse(good.substr(0, 63)).find("63 bytes"), std::string::npos);
  EXPECT_NE(refuse(good.substr(0, 66)).find("announces 3 payload bytes"), std::string::npos);
  EXPECT_NE(refuse(good + "x").find("1 bytes where a header"), std::string::npos);
  EXPECT_NE(refuse("GET / HTTP/1.1\r\n" + std::string(100, ' ')).find("magic"), std::string::npos);
  std::string bad_type = good;
  bad_type[offsetof(Header, type)] = 100;
  EXPECT_NE(refuse(bad_type).find("unknown type 100"), std::string::npos);
  for (const uint64_t size : {uint64_t{4}, kMaxPayloadBytes + 1, ~uint64_t{0}}) {
    std::string bad_size = good;
    std::memcpy(&bad_size[offsetof(Header, payload_bytes)], &size, sizeof(size));
    EXPECT_NE(refuse(bad_size).find("announces"), std::string::npos);
  }
}

TEST(Framing, DamagedBytesNeverDoMoreThanFail) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = Bytes({HelloMessage({1, "b", "t", "control", "worker", 3}),
                               Text(MessageType::kControl, 2, std::string(rng() % 80, 'c')),
                               StatusMessage(MessageType::kError, absl::AbortedError("x"))});
    for (size_t i = 0; i < 1 + rng() % 4; ++i)
      bytes[rng() % bytes.size()] = static_cast<char>(rng());
    bytes.resize(bytes.size() - rng() % 3 * (rng() % 40));
    const auto parsed = ParseFrames(Cut(std::move(bytes), rng));
    if (!parsed.ok()) ++refused;
    if (!parsed.ok()) continue;
    for (const Message& message : *parsed) {
      (void)ParseHello(message);
      (void)ParseStatus(message);
      EXPECT_EQ(message.payload.size(), message.header.payload_bytes);
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(Framing, HelloAndStatusComeBack) {
  const Hello hello{kProtocolVersion, "build", "token", "params", "ps", 7};
  const auto parsed = ParseHello(HelloMessage(hello));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->protocol_version, hello.protocol_version);
  EXPECT_EQ(parsed->build_id, hello.build_id);
  EXPECT_EQ(parsed->job_token, hello.job_token);
  EXPECT_EQ(parsed->service, hello.service);
  EXPECT_EQ(parsed->role, hello.role);
  EXPECT_EQ(parsed->index, hello.index);
  EXPECT_FALSE(ParseHello(Text(MessageType::kHello, 0, "\xff\xff\xff")).ok());
  EXPECT_FALSE(ParseHello(Text(MessageType::kControl, 0, "")).ok());

  for (const absl::Status& status : {absl::OkStatus(), absl::DataLossError("torn")}) {
    EXPECT_EQ(ParseStatus(StatusMessage(MessageType::kClose, status)), status);
  }
  Message odd = StatusMessage(MessageType::kClose, absl::AbortedError("why"));
  odd.header.code = 999;
  EXPECT_EQ(ParseStatus(odd).code(), absl::StatusCode::kUnknown);
}

}  // namespace
}  // namespace muster::rpc
