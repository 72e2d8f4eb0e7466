// Gradients that are encoded where they are computed: what a worker pushes, and what it has not
// sent yet, is what the client would have made of them, bit for bit; only encodings are copied to
// the host; and replicas go on from checkpoints of either.
#include "worker/device_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/device.h"
#include "kernels/op.h"
#include "ps/residuals.h"
#include "rpc/transport.h"
#include "tests/harness/host_gpu.h"
#include "tests/harness/temporary_folder.h"
#include "tests/ps/servers.h"
#include "worker/device_exchange.h"

namespace muster::worker {
namespace {

using testing::HostGpuPace;
constexpr int32_t kReplicas[] = {0, 1};

// With a codec and without one in turn, cut by servers, and small ones that are bundled.
ps::ParamTable TableOf(const std::shared_ptr<const Codec>& codec) {
  return *ps::ParamTable::Make({
      {.name = "first", .shape = {3}, .codec = codec},
      {.name = "plain", .shape = {77}},
      {.name = "beside", .shape = {5}},
      {.name = "big", .shape = {100, 601}, .codec = codec},
      {.name = "mean", .shape = {13}, .kind = ps::ParamSpec::Kind::kStatistic},
      {.name = "odd", .shape = {5, 1001}, .codec = codec},
  });
}

// A worker with both replicas' leases, whose models compute on a device, and its servers.
class Worker {
 public:
  Worker(const ps::ParamTable& table, bool encodes, HostGpuPace pace = HostGpuPace::kAtOnce)
      : table_(table),
        servers_(table, {.replicas = 2, .servers = 2}),
        device_(testing::MakeHostGpu({.pace = pace, .codecs = encodes, .copies = copies_})),
        compute_(device_->MakeStream()) {
    servers_.Initialize();
    client_ = *ps::ConnectWorker(servers_, table, 0);
  }

  // What a trainer does before its first step; true when the device encodes.
  bool Begin() {
    const auto size = static_cast<size_t>(table_.arena_size());
    HostArenas host;
    host.weights = rpc::FloatsIn(rpc::AllocateAligned(size * sizeof(float)));
    std::fill_n(host.weights.get(), size, 0.0f);
    weights_ = {host.weights.get(), size};
    client_->SetArena(weights_);
    for (size_t i = 0; i < 2; ++i) host.gradients.push_back(client_->AllocateGradients());
    auto encoder = DeviceEncoder::Make(*device_, table_, *client_, kReplicas);
    EXPECT_TRUE(encoder.ok()) << encoder.status();
    const bool encodes = *encoder != nullptr;
    Stream* const stream = compute_.get();
    exchange_ = MakeDeviceExchange({&stream, 1}, nullptr, table_, std::move(host),
                                   /*bucket_bytes=*/4096, *std::move(encoder));
    return encodes;
  }

  // Both replicas' gradients of number `gradients` are computed and pushed as those of `step`.
  void Step(int64_t step, int64_t gradients) {
    const std::vector<Buffer> sources = [&] {
      std::vector<Buffer> made;
      for (const int32_t replica : kReplicas) {
        std::mt19937_64 random(static_cast<uint64_t>(10 * gradients + replica));
        std::normal_distribution<float> normal(0, 0.01f);
        std::vector<float> values(static_cast<size_t>(table_.arena_size()));
        for (float& x : values) x = normal(random);
        Buffer& source = made.emplace_back(*device_, values.size() * sizeof(float));
        CopyToDevice(*compute_, values, Tensor(source.data(), {table_.arena_size()}));
        EXPECT_TRUE(compute_->Synchronize().ok());
      }
      return made;
    }();
    for (size_t lease = 0; lease < 2; ++lease) {
      const Arenas arenas = exchange_->Gradients(lease);
      const std::span<const float> pushed = exchange_->PushedGradients(lease);
      const auto params = static_cast<ps::ParamId>(table_.specs().size());
      for (ps::ParamId param = params - 1; param >= 0; --param) {
        const auto offset = table_.offset(param);
        device_->ops().Copy(*compute_, arenas[0].data() + offset, sources[lease].data() + offset,
                            SizeOf(param) * sizeof(float), CopyDirection::kDeviceToDevice);
        EXPECT_FALSE(exchange_->Bring(0, param));
      }
      const absl::Status status = exchange_->Finish([&](ps::ParamId param) {
        client_->Push(kReplicas[lease], step, param,
                      pushed.subspan(static_cast<size_t>(table_.offset(param)), SizeOf(param)),
                      param, /*want_params=*/lease == 1);
      });
      ASSERT_TRUE(status.ok()) << status;
    }
    const absl::Status arrived = client_->Wait(step + 1);
    ASSERT_TRUE(arrived.ok()) << arrived;
  }

  std::vector<float> Weights() const { return {weights_.begin(), weights_.end()}; }
  // Both replicas'.
  std::vector<float> Residuals() {
    std::vector<float> all;
    for (const int32_t replica : kReplicas) {
      const auto slices = client_->Residuals(replica);
      EXPECT_TRUE(slices.ok()) << slices.status();
      for (const ps::SavedSlice& slice : *slices) {
        all.insert(all.end(), slice.weights.begin(), slice.weights.end());
      }
    }
    return all;
  }
  void Save(const std::string& folder, int64_t clock) {
    ps::ResidualSaver saver(*client_, table_, servers_.partition(), {0, 1}, folder,
                            [](int64_t, int32_t, const std::string&, const absl::Status& status) {
                              EXPECT_TRUE(status.ok()) << status;
                            });
    saver.AddCut(clock);
    saver.OnClock(clock);
  }
  void Restore(const std::string& folder, int64_t clock) {
    for (const int32_t replica : kReplicas) {
      const absl::Status restored = ps::RestoreResiduals(
          *client_, table_, replica,
          ps::ResidualPartPath(folder + "/step-" + std::to_string(clock), replica), clock);
      ASSERT_TRUE(restored.ok()) << restored;
    }
  }
  int64_t to_host_bytes() const { return copies_->to_host_bytes; }
  const ps::Partition& partition() const { return servers_.partition(); }

 private:
  size_t SizeOf(ps::ParamId param) const {
    return static_cast<size_t>(table_.specs()[static_cast<size_t>(param)].size());
  }

  const std::shared_ptr<testing::HostGpuCopies> copies_ =
      std::make_shared<testing::HostGpuCopies>();
  const ps::ParamTable& table_;
  ps::Servers servers_;
  const std::unique_ptr<Device> device_;
  const std::unique_ptr<Stream> compute_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<ps::Client> client_;  // goes before the exchange
  std::span<float> weights_;
};

class DeviceEncoderTest : public ::testing::TestWithParam<std::string> {
 protected:
  const std::shared_ptr<const Codec> codec_ = *MakeCodec(GetParam());
  const ps::ParamTable table_ = TableOf(codec_);
};

std::vector<std::string> Codecs() {
  std::vector<std::string> names = CodecNames();
  std::erase(names, "none");
  return names;
}
INSTANTIATE_TEST_SUITE_P(Codecs, DeviceEncoderTest, ::testing::ValuesIn(Codecs()),
                         [](const auto& info) { return info.param; });

TEST_P(DeviceEncoderTest, PushesWhatTheClientWouldHaveEncoded) {
  for (const HostGpuPace pace : {HostGpuPace::kAtOnce, HostGpuPace::kLate}) {
    Worker here(table_, /*encodes=*/true, pace), host(table_, /*encodes=*/false, pace);
    ASSERT_TRUE(here.Begin());
    ASSERT_FALSE(host.Begin());
    for (int64_t step = 0; step < 4; ++step) {
      SCOPED_TRACE(step);
      const std::vector<float> before = host.Weights();
      here.Step(step, step), host.Step(step, step);
      if (HasFatalFailure()) return;
      ASSERT_NE(host.Weights(), before);
      ASSERT_EQ(here.Weights(), host.Weights());
      ASSERT_EQ(here.Residuals(), host.Residuals());
    }
    const auto kept = host.Residuals();
    EXPECT_EQ(std::ranges::any_of(kept, [](float x) { return x != 0; }), codec_->has_residual());
  }
}

TEST_P(DeviceEncoderTest, OnlyEncodingsAreCopiedToTheHost) {
  Worker worker(table_, /*encodes=*/true);
  ASSERT_TRUE(worker.Begin());
  int64_t encoded = 0;
  for (const ps::ParamSlice& slice : worker.partition().slices) {
    const auto& codec = table_.specs()[static_cast<size_t>(slice.param)].codec;
    if (codec != nullptr) encoded += static_cast<int64_t>(codec->EncodedSize(slice.size));
  }
  const int64_t begun = worker.to_host_bytes();
  for (int64_t step = 0; step < 3; ++step) worker.Step(step, step);
  // The others: as they are, with what lies between two of them.
  const int64_t plain = 4 * (table_.offset(2) - table_.offset(1) + 5 + 13);
  EXPECT_EQ(worker.to_host_bytes() - begun, 3 * 2 * (encoded + plain));
}

// Whoever encodes before a checkpoint, and behind it.
TEST_P(DeviceEncoderTest, ReplicasGoOnFromACheckpointOfEither) {
  Worker whole(table_, /*encodes=*/false);
  ASSERT_FALSE(whole.Begin());
  for (int64_t step = 0; step < 4; ++step) whole.Step(step, step);
  for (const auto& [first, second] : {std::pair{true, false}, {false, true}, {true, true}}) {
    SCOPED_TRACE(std::string(first ? "device" : "host") + ", then " + (second ? "device" : "host"));
    const harness::TemporaryFolder folder;
    {
      Worker worker(table_, first);
      ASSERT_EQ(worker.Begin(), first);
      for (int64_t step = 0; step < 2; ++step) worker.Step(step, step);
      worker.Save(folder.path(), 2);
    }
    Worker worker(table_, second);
    if (codec_->has_residual()) worker.Restore(folder.path(), 2);
    ASSERT_EQ(worker.Begin(), second);
    for (int64_t step = 0; step < 2; ++step) worker.Step(step, /*gradients=*/2 + step);
    EXPECT_EQ(worker.Residuals(), whole.Residuals());
  }
}

TEST(DeviceEncoderTest, WithoutACodecThereIsNothingToEncode) {
  const ps::ParamTable table = TableOf(nullptr);
  Worker worker(table, /*encodes=*/true);
  EXPECT_FALSE(worker.Begin());
  worker.Step(0, 0);
}

}  // namespace
}  // namespace muster::worker
