// Gradients of one to eight devices reach the host as their sum in rank order, parameters reach all
// devices: for random parameters and buckets, whatever the devices' pace.
#include "worker/device_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "kernels/device.h"
#include "kernels/op.h"
#include "rpc/transport.h"
#include "tests/harness/host_gpu.h"

namespace muster::worker {
namespace {

using ::testing::HasSubstr;

// Devices that play a model's part: gradients that are there are copied to where the exchange wants
// them, on the compute streams.
class Players {
 public:
  Players(const ps::ParamTable& table, testing::HostGpus gpus, int64_t bucket_bytes)
      : table_(table), gpus_(std::move(gpus)) {
    const auto size = static_cast<size_t>(table.arena_size());
    std::vector<Stream*> streams;
    for (const auto& device : gpus_.devices) {
      streams_.push_back(device->MakeStream());
      streams.push_back(streams_.back().get());
      sources_.emplace_back(*device, size * sizeof(float));
    }
    const auto arena = [size] { return rpc::FloatsIn(rpc::AllocateAligned(size * sizeof(float))); };
    host_ = {arena(), {arena(), arena()}};
    std::fill_n(host_.weights.get(), size, 0.0f);
    exchange_ =
        MakeDeviceExchange(streams, gpus_.devices.size() > 1 ? gpus_.communicator.get() : nullptr,
                           table, host_, bucket_bytes);
  }

  size_t devices() const { return streams_.size(); }
  Exchange& exchange() { return *exchange_; }
  float* host_weights() { return host_.weights.get(); }
  void SetGradient(size_t device, const std::vector<float>& gradient) {
    CopyToDevice(*streams_[device], gradient, Tensor(sources_[device].data(), {Size()}));
    ASSERT_TRUE(streams_[device]->Synchronize().ok());
  }
  void Compute(size_t device, ps::ParamId param, std::span<float> arena) {
    const auto offset = static_cast<size_t>(table_.offset(param));
    gpus_.devices[device]->ops().Copy(
        *streams_[device], arena.data() + offset, sources_[device].data() + offset,
        static_cast<size_t>(table_.specs()[static_cast<size_t>(param)].size()) * sizeof(float),
        CopyDirection::kDeviceToDevice);
    exchange_->Bring(device, param);
  }
  std::vector<float> WeightsOn(size_t device, ConstArenas weights) {
    std::vector<float> read(static_cast<size_t>(Size()));
    EXPECT_TRUE(
        CopyToHost(*streams_[device], ConstTensor(weights[device].data(), {Size()}), read).ok());
    return read;
  }

 private:
  int64_t Size() const { return table_.arena_size(); }

  const ps::ParamTable& table_;
  testing::HostGpus gpus_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<Buffer> sources_;
  HostArenas host_;
  std::unique_ptr<Exchange> exchange_;
};

using Random = std::mt19937_64;

int64_t Draw(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

ps::ParamTable RandomTable(Random& random) {
  std::vector<ps::ParamSpec> specs(static_cast<size_t>(Draw(random, 1, 12)));
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i].name = "p" + std::to_string(i);
    specs[i].shape = {Draw(random, 1, Draw(random, 0, 1) ? 40 : 3000)};
  }
  return *ps::ParamTable::Make(std::move(specs));
}

std::vector<float> RandomArena(Random& random, const ps::ParamTable& table) {
  std::vector<float> arena(static_cast<size_t>(table.arena_size()));
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (float& x : arena) x = uniform(random);
  return arena;
}

// A step of one lease: every parameter reaches the host once, as the sum in rank order, and is
// there when it is announced.
void CheckGradients(Random& random, const ps::ParamTable& table, Players& players, size_t lease) {
  std::vector<float> want;
  const Arenas arenas = players.exchange().Gradients(lease);
  std::vector<std::pair<size_t, ps::ParamId>> order;
  for (size_t d = 0; d < players.devices(); ++d) {
    const std::vector<float> gradient = RandomArena(random, table);
    players.SetGradient(d, gradient);
    for (size_t i = 0; i < gradient.size(); ++i) {
      d == 0 ? want.push_back(gradient[i]) : void(want[i] += gradient[i]);
    }
    for (size_t p = 0; p < table.specs().size(); ++p) {
      order.emplace_back(d, static_cast<ps::ParamId>(p));
    }
  }
  std::shuffle(order.begin(), order.end(), random);
  for (const auto& [device, param] : order) players.Compute(device, param, arenas[device]);
  std::vector<int> announced(table.specs().size());
  const std::span<const float> host = players.exchange().PushedGradients(lease);
  const absl::Status status = players.exchange().Finish([&](ps::ParamId param) {
    ++announced[static_cast<size_t>(param)];
    const auto begin = table.offset(param);
    const auto size = table.specs()[static_cast<size_t>(param)].size();
    ASSERT_TRUE(std::equal(want.begin() + begin, want.begin() + begin + size, host.begin() + begin))
        << "parameter " << param;
  });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(announced, ::testing::Each(1));
}

void CheckWeights(Random& random, const ps::ParamTable& table, Players& players) {
  const std::vector<float> weights = RandomArena(random, table);
  std::copy(weights.begin(), weights.end(), players.host_weights());
  const auto given = players.exchange().Weights(0);
  ASSERT_TRUE(given.ok() && players.exchange().Settle().ok());
  for (size_t d = 0; d < players.devices(); ++d) {
    ASSERT_EQ(players.WeightsOn(d, *given), weights) << "device " << d;
  }
}

TEST(DeviceExchangeTest, ScatteredAndGatheredIsThePlainSumInRankOrder) {
  const char* given = std::getenv("SEED");
  const uint64_t first = given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
  for (uint64_t seed = first; seed < first + (given == nullptr ? 200 : 1); ++seed) {
    SCOPED_TRACE("SEED=" + std::to_string(seed));
    Random random(seed);
    const ps::ParamTable table = RandomTable(random);
    const auto devices = static_cast<int>(Draw(random, 1, 8));
    const int64_t bucket_bytes = int64_t{1} << Draw(random, 0, 16);
    const auto pace =
        Draw(random, 0, 1) ? testing::HostGpuPace::kLate : testing::HostGpuPace::kAtOnce;
    Players players(table, testing::MakeHostGpus(devices, pace), bucket_bytes);
    for (int step = 0; step < 2; ++step) {
      CheckWeights(random, table, players);
      for (size_t lease = 0; lease < 2; ++lease) CheckGradients(random, table, players, lease);
    }
    if (::testing::Test::HasFailure()) return;
  }
}

// Whichever GPU fails, and in whichever call: an error, no waiting for ever, and an end.
TEST(DeviceExchangeTest, AGpuThatFailsIsTold) {
  Random random(1);
  const ps::ParamTable table = RandomTable(random);
  for (const int rank : {0, 1, 2}) {
    for (const int64_t calls : {0, 1, 2, 4}) {
      SCOPED_TRACE("rank " + std::to_string(rank) + ", call " + std::to_string(calls));
      Players players(
          table,
          testing::MakeHostGpus(3, testing::HostGpuPace::kLate, testing::FailingGpu{rank, calls}),
          /*bucket_bytes=*/1);
      absl::Status status;
      for (int step = 0; step < 5 && status.ok(); ++step) {
        status = players.exchange().Weights(step).status();
        if (status.ok() && step % 2 == 0) status = players.exchange().Settle();
        if (!status.ok()) break;
        const Arenas arenas = players.exchange().Gradients(0);
        for (size_t d = 0; d < 3; ++d) {
          for (size_t p = 0; p < table.specs().size(); ++p) {
            players.Compute(d, static_cast<ps::ParamId>(p), arenas[d]);
          }
        }
        status = players.exchange().Finish([](ps::ParamId) {});
      }
      EXPECT_THAT(std::string(status.message()), HasSubstr("the test lets a GPU fail"));
    }
  }
}

}  // namespace
}  // namespace muster::worker
