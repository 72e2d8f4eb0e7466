// A worker that sends nonsense: every message is answered by an error or not at all, the server
// lives, and no weight changes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "ps/client.h"
#include "ps/init.h"
#include "ps/wire.h"
#include "tests/ps/servers.h"

namespace muster::ps {
namespace {

class Deaf final : public rpc::StreamHandler {
  void OnMessage(rpc::Message) override {}
  void OnClosed(absl::Status) override {}
};

template <typename T>
T Pick(std::mt19937& rng, std::initializer_list<T> values) {
  return values.begin()[rng() % values.size()];
}

// Anything but a push that a correct worker could send now.
rpc::Message Nonsense(std::mt19937& rng, const ParamTable& table, const Partition& partition,
                      std::string& bytes) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const auto slices = static_cast<uint32_t>(partition.slices.size());
  rpc::Message m;
  m.header.magic = rng() % 8 == 0 ? static_cast<uint32_t>(rng()) : rpc::Header::kMagic;
  // Types from CONTROL to TOTALS; a transport sends no others.
  m.header.type = static_cast<rpc::MessageType>(2 + rng() % 8);
  m.header.flags = static_cast<uint8_t>(rng());
  m.header.code = static_cast<uint16_t>(rng());
  m.header.slice =
      Pick<uint32_t>(rng, {0, 1, slices - 1, slices, ~0u, static_cast<uint32_t>(rng())});
  m.header.replica = Pick<uint32_t>(rng, {0, 1, 2, ~0u, static_cast<uint32_t>(rng())});
  m.header.step = Pick<int64_t>(rng, {0, 1, -1, kMax, -kMax - 1, int64_t{1} << 53});
  m.header.version = Pick<int64_t>(rng, {-1, 0, 1, -2, kMax, -kMax - 1});
  m.header.epoch = rng();
  const uint32_t slice = std::min(m.header.slice, slices - 1);
  const size_t right = PushBytes(table, partition.slices[slice]);
  size_t size = Pick<size_t>(rng, {0, 1, 3, right - 1, right + 1, right});
  // A push of the right size at the replica's clock would be a good one.
  if (size == right && m.header.step == 0) size = 0;
  bytes.resize(std::max(bytes.size(), size), '\x7f');
  m.payload = rpc::Payload::Own(bytes.substr(0, size));
  return m;
}

TEST(HostileTest, NonsenseNeitherKillsAServerNorChangesAWeight) {
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {3000}, .init = {Init::Kind::kUniform, 1}},
                         {.name = "b", .shape = {5}}});
  for (const char* mode : {"BSP", "SSP", "ASYNC"}) {
    const uint32_t seed = 99;
    SCOPED_TRACE(testing::Message() << mode << " seed " << seed);
    std::mt19937 rng(seed);
    Servers servers(table, {.mode = mode, .staleness = 1, .replicas = 2, .shards = 2});
    servers.Initialize();
    const auto stream = *servers.transport().Connect(servers.addresses()[0], WorkerHello(0),
                                                     std::make_unique<Deaf>(), 10'000);
    std::string bytes;
    for (int i = 0; i < 5000; ++i) {
      ASSERT_TRUE(stream->Send(Nonsense(rng, table, servers.partition(), bytes)).ok());
    }
    stream->Close();

    std::vector<float> arena(static_cast<size_t>(table.arena_size()), 0.0f);
    const auto client = *ConnectWorker(servers, table, 1);
    client->SetArena(arena);
    client->Pull(0, 0, 0);
    const absl::Status status = client->Wait(0);
    ASSERT_TRUE(status.ok()) << status;
    std::vector<float> first(3000);
    InitialValues(table.specs()[0], 1, 0, first);
    EXPECT_EQ(std::vector<float>(arena.begin(), arena.begin() + 3000), first);
    EXPECT_EQ(servers.server(0).stats().applies, 0);
    EXPECT_EQ(servers.server(0).stats().pushes, 0);
    EXPECT_GT(servers.server(0).stats().refused, 3000);
  }
}

// Pushes of the right size at the right step, of bytes that no codec wrote. A finite gradient
// counts as any other; the server lives and refuses the rest.
TEST(HostileTest, NoBytesOfAnEncodingKillAServer) {
  for (const std::string& name : CodecNames()) {
    const uint32_t seed = 7;
    SCOPED_TRACE(testing::Message() << name << " seed " << seed);
    std::mt19937 rng(seed);
    const ParamTable table =
        *ParamTable::Make({{.name = "a", .shape = {40'000}, .codec = *MakeCodec(name)}});
    Servers servers(table, {.mode = "ASYNC", .replicas = 2});
    servers.Initialize();
    const auto stream = *servers.transport().Connect(servers.addresses()[0], WorkerHello(0),
                                                     std::make_unique<Deaf>(), 10'000);
    constexpr int kPushes = 300;
    for (int i = 0; i < kPushes; ++i) {
      const auto slice = static_cast<int32_t>(rng() % servers.partition().slices.size());
      const ParamSlice& place = servers.partition().slices[static_cast<size_t>(slice)];
      std::string bytes(PushBytes(table, place), '\0');
      for (char& c : bytes) c = static_cast<char>(rng());
      ASSERT_TRUE(
          stream->Send(PushMessage(slice, 0, 0, false, rpc::Payload::Own(std::move(bytes)))).ok());
    }
    stream->Close();
    const auto client = *ConnectWorker(servers, table, 1);
    std::vector<float> arena(static_cast<size_t>(table.arena_size()), 0.0f);
    client->SetArena(arena);
    client->Pull(1, 0, -1);
    ASSERT_TRUE(client->Wait(0).ok());
    for (const float w : arena) ASSERT_TRUE(std::isfinite(w));
    const ServerStats stats = servers.server(0).stats();
    EXPECT_EQ(stats.pushes + stats.repeated + stats.refused, kPushes);
  }
}

}  // namespace
}  // namespace muster::ps
