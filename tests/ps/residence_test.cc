// Parameters that live on the device give the bits of a shard on the host: for every optimizer, in
// checkpoints, after going from one to the other. No gradient or parameter crosses in a step. What
// cannot go on, says why. The device is played by the host, at once or as late as it may.
#include "ps/residence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <thread>

#include "kernels/op.h"
#include "rpc/inproc_transport.h"
#include "telemetry/log.h"
#include "tests/harness/fused_multiply_add.h"
#include "tests/harness/host_gpu.h"
#include "tests/harness/temporary_folder.h"

namespace muster::ps {
namespace {

using ::muster::testing::HostGpuPace;
using ::testing::HasSubstr;

// Several slices of one parameter, bundles, neighbours that are updated alike and others.
ParamTable MakeTable() {
  const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
  return *ParamTable::Make({
      {.name = "big", .shape = {100, 411}, .init = normal},
      {.name = "small", .shape = {77}, .init = normal},
      {.name = "alike", .shape = {5}, .init = normal},
      {.name = "mean", .shape = {13}, .kind = ParamSpec::Kind::kStatistic, .momentum = 0.9f},
      {.name = "odd", .shape = {5, 1001}, .init = normal, .decay = false, .lr_scale = 2},
  });
}

// Of a step: of all magnitudes, and 0 in the padding.
std::vector<float> Gradient(const ParamTable& table, int64_t step) {
  std::vector<float> arena(static_cast<size_t>(table.arena_size()));
  std::mt19937 random(static_cast<uint32_t>(step) + 1);
  std::normal_distribution<float> normal(0, step % 3 == 0 ? 1 : 1e-3f);
  for (size_t p = 0; p < table.specs().size(); ++p) {
    float* const begin = arena.data() + table.offset(static_cast<ParamId>(p));
    std::generate_n(begin, table.specs()[p].size(), [&] { return normal(random); });
  }
  return arena;
}

struct Setting {
  std::string optimizer;
  std::map<std::string, double> params = {};
  float weight_decay = 0, clip_value = std::numeric_limits<float>::infinity();
};

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.optimizer << " decay " << setting.weight_decay << " clip " << setting.clip_value;
}

// What a checkpoint holds.
struct Saved {
  int64_t clock = -1, version = -1;
  std::vector<std::vector<float>> arrays;  // weights, then slots
  bool operator==(const Saved&) const = default;
};

// A server and its client, on the host or on a device that has memory of its own.
class Place {
 public:
  Place(const ParamTable& table, const Setting& setting,
        std::optional<muster::testing::HostGpuOptions> device)
      : table_(table),
        partition_(MakePartition(table, 1)),
        policy_(*MakeConsistencyPolicy("BSP", 0)),
        optimizer_(*MakeOptimizer(setting.optimizer, setting.params)) {
    ServerOptions options;
    options.seed = 3;
    options.weight_decay = setting.weight_decay;
    options.clip_value = setting.clip_value;
    if (device) {
      gpu_ = muster::testing::MakeHostGpu(*device);
      compute_ = gpu_->MakeStream();
      options.residence = residence_ = std::make_shared<Residence>(gpu_->name());
    }
    ServerEvents events;
    events.on_cut = [this](int64_t clock, const std::string& file, const absl::Status& status) {
      MutexLock lock(mu_);
      cuts_[clock] = {file, absl::Status(status.code(), status.message())};
      changed_.NotifyAll();
    };
    events.on_bad_push = [this](const absl::Status& status) {
      MutexLock lock(mu_);
      bad_.emplace_back(status.message());
      changed_.NotifyAll();
    };
    const Schedule schedule = [](int64_t step) { return 0.1f / static_cast<float>(1 + step); };
    server_ =
        Server::Make(table_, partition_, *policy_, *optimizer_, schedule, options, events, *log_);
  }
  ~Place() {
    client_ = nullptr;
    listener_ = nullptr;
    server_ = nullptr;
  }

  void Begin() { ASSERT_TRUE(server_->Initialize().ok()); }
  absl::Status Restore(const std::string& file, int64_t clock) {
    return server_->Restore({file}, clock);
  }
  absl::Status Connect() {
    if (residence_ != nullptr) {
      ASSIGN_OR_RETURN(client_, Residence::Connect(residence_, *compute_));
      return absl::OkStatus();
    }
    rpc::Hello hello;
    hello.service = "params";
    if (listener_ == nullptr) {
      listener_ = *transport_->Listen("inproc:0", hello, server_->acceptor());
    }
    ASSIGN_OR_RETURN(client_, Client::Connect(*transport_, {listener_->address()}, hello, table_,
                                              partition_, {}, *log_));
    arena_.assign(static_cast<size_t>(table_.arena_size()), 0);
    client_->SetArena(arena_);
    return absl::OkStatus();
  }
  void Disconnect() { client_ = nullptr; }
  void EndServer() { server_ = nullptr; }

  // Pushes the gradient of the step, without the last `missing` parameters.
  absl::Status Step(int64_t step, std::vector<float> gradient, size_t missing = 0) {
    // Stays as long as the device may be late.
    const std::vector<float>& kept = gradients_.emplace_back(std::move(gradient));
    std::span<const float> arena = kept;
    if (const auto on_device = client_->on_device()) {
      CopyToDevice(*compute_, kept, Tensor(on_device->gradients.data(), {table_.arena_size()}));
      arena = on_device->gradients;
    }
    for (size_t p = table_.specs().size(); p-- > missing;) {
      const auto param = static_cast<ParamId>(p);
      client_->Push(0, step, param,
                    arena.subspan(static_cast<size_t>(table_.offset(param)),
                                  static_cast<size_t>(table_.specs()[p].size())),
                    /*priority=*/param, /*want_params=*/true);
    }
    client_->Flush();
    return client_->Wait(step + 1);
  }
  absl::Status Train(int64_t from, int64_t to) {
    for (int64_t step = from; step < to; ++step) {
      RETURN_IF_ERROR(Step(step, Gradient(table_, step)));
    }
    return absl::OkStatus();
  }

  void CutAt(int64_t clock) { server_->CutAt(clock, folder_.path() + "/" + std::to_string(clock)); }
  // The file of a cut, once it is there.
  absl::StatusOr<std::string> Cut(int64_t clock) {
    MutexLock lock(mu_);
    while (!cuts_.contains(clock)) changed_.Wait(mu_);
    const auto& [file, status] = cuts_[clock];
    if (!status.ok()) return status;
    return file;
  }
  Saved Read(int64_t clock) {
    const auto file = Cut(clock);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return {};
    const auto checkpoint = Checkpoint::Open({*file}, table_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    const ParamSlice whole = WholeArena(table_);
    Saved saved{checkpoint->clock(), checkpoint->Version(whole)};
    std::vector<std::string> names = optimizer_->slot_names();
    names.insert(names.begin(), "");
    for (const std::string& name : names) {
      auto& array = saved.arrays.emplace_back(static_cast<size_t>(whole.size));
      EXPECT_TRUE(checkpoint->Read(whole, name, array).ok());
    }
    return saved;
  }

  Client& client() { return *client_; }
  Server& server() { return *server_; }
  // What was said of the first gradient that was refused, once there is one.
  std::string Bad() {
    MutexLock lock(mu_);
    while (bad_.empty()) changed_.Wait(mu_);
    EXPECT_EQ(bad_.size(), 1u);
    return bad_.front();
  }

 private:
  const harness::TemporaryFolder folder_;
  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  const ParamTable& table_;
  const Partition partition_;
  const std::unique_ptr<const ConsistencyPolicy> policy_;
  const std::unique_ptr<const Optimizer> optimizer_;
  std::unique_ptr<Device> gpu_;  // or null
  std::unique_ptr<Stream> compute_;
  std::shared_ptr<Residence> residence_;
  Mutex mu_;
  CondVar changed_;
  std::map<int64_t, std::pair<std::string, absl::Status>> cuts_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> bad_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Server> server_;
  std::unique_ptr<rpc::Listener> listener_;
  std::deque<std::vector<float>> gradients_;
  std::vector<float> arena_;
  std::unique_ptr<Client> client_;
};

constexpr std::nullopt_t kHost = std::nullopt;

class ResidenceTest : public ::testing::TestWithParam<HostGpuPace> {
 protected:
  void SetUp() override {
    if (!testing::CpuFusesMultiplyAdd()) GTEST_SKIP() << "this CPU has no fused multiply-add";
  }
  muster::testing::HostGpuOptions Gpu() const { return {.pace = GetParam()}; }

  const ParamTable table_ = MakeTable();
};

INSTANTIATE_TEST_SUITE_P(Paces, ResidenceTest,
                         ::testing::Values(HostGpuPace::kAtOnce, HostGpuPace::kLate),
                         [](const auto& info) {
                           return info.param == HostGpuPace::kLate ? "late" : "at_once";
                         });

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  for (const std::string& name : OptimizerNames()) {
    if ((*MakeOptimizer(name, {}))->has_trust_ratio()) continue;
    settings.push_back({name});
    settings.push_back({.optimizer = name, .weight_decay = 0.01f, .clip_value = 0.5f});
  }
  settings.push_back({"rmsprop", {{"momentum", 0.5}, {"centered", 1}}});
  settings.push_back({"ftrl", {{"l1", 0.01}}});
  return settings;
}

TEST_P(ResidenceTest, EveryOptimizerGivesTheBitsOfAShardOnTheHost) {
  for (const Setting& setting : Settings()) {
    SCOPED_TRACE(::testing::PrintToString(setting));
    Place host(table_, setting, kHost), device(table_, setting, Gpu());
    for (Place* const place : {&host, &device}) {
      place->Begin();
      for (const int64_t clock : {0, 3, 7}) place->CutAt(clock);
      ASSERT_TRUE(place->Cut(0).ok() && place->Connect().ok());
      const absl::Status trained = place->Train(0, 7);
      ASSERT_TRUE(trained.ok()) << trained;
    }
    for (const int64_t clock : {0, 3, 7}) {
      SCOPED_TRACE(clock);
      const Saved want = host.Read(clock), got = device.Read(clock);
      EXPECT_EQ(got.version, clock);
      ASSERT_TRUE(got == want);
    }
    EXPECT_NE(device.Read(3).arrays, device.Read(7).arrays);
    EXPECT_EQ(device.server().stats().applies, 7);
  }
}

TEST_P(ResidenceTest, WhatOneSavesTheOtherGoesOnWith) {
  const Setting adam{.optimizer = "adam", .weight_decay = 0.01f};
  for (const bool from_device : {false, true}) {
    SCOPED_TRACE(from_device);
    const auto on = [&](bool device) {
      return std::make_unique<Place>(table_, adam, device ? std::optional(Gpu()) : kHost);
    };
    const auto first = on(from_device), second = on(!from_device);
    first->Begin();
    first->CutAt(4);
    first->CutAt(9);
    ASSERT_TRUE(first->Connect().ok() && first->Train(0, 9).ok());
    const absl::Status restored = second->Restore(*first->Cut(4), 4);
    ASSERT_TRUE(restored.ok()) << restored;
    second->CutAt(9);
    ASSERT_TRUE(second->Connect().ok());
    EXPECT_EQ(*second->client().Clock(0), 4);
    ASSERT_TRUE(second->Train(4, 9).ok());
    EXPECT_TRUE(second->Read(9) == first->Read(9));
    EXPECT_THAT(std::string(on(true)->Restore(*first->Cut(4), 5).message()),
                HasSubstr("the part is of clock 4, not 5"));
  }
}

TEST_P(ResidenceTest, AStepBringsFourBytesToTheHost) {
  const auto copies = std::make_shared<muster::testing::HostGpuCopies>();
  muster::testing::HostGpuOptions gpu = Gpu();
  gpu.copies = copies;
  Place place(table_, {"adam"}, gpu);
  place.Begin();
  ASSERT_TRUE(place.Connect().ok());
  const int64_t arena = table_.arena_size() * int64_t{sizeof(float)};
  EXPECT_EQ(copies->to_device_bytes, 3 * arena) << "weights and two slots";
  ASSERT_TRUE(place.Train(0, 10).ok());
  EXPECT_EQ(copies->to_host_bytes, 10 * 4);
  EXPECT_EQ(copies->to_device_bytes, 13 * arena) << "the gradients that this test puts there";
  place.CutAt(10);
  ASSERT_TRUE(place.Cut(10).ok());
  EXPECT_EQ(copies->to_host_bytes, 10 * 4 + 3 * arena);
}

TEST_P(ResidenceTest, AGradientThatIsNotFiniteEndsItWithTheHostsWords) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    // The first element, one amid the big parameter, the last of the last.
    for (const int64_t at : {int64_t{0}, int64_t{30'000}, table_.offset(4) + 5004}) {
      SCOPED_TRACE(at);
      Place host(table_, {"momentum"}, kHost), device(table_, {"momentum"}, Gpu());
      for (Place* const place : {&host, &device}) {
        place->Begin();
        for (const int64_t clock : {2, 3}) place->CutAt(clock);
        ASSERT_TRUE(place->Connect().ok() && place->Train(0, 2).ok());
        std::vector<float> gradient = Gradient(table_, 2);
        gradient[static_cast<size_t>(at)] = bad;
        const absl::Status status = place->Step(2, gradient);
        ASSERT_FALSE(status.ok());
        EXPECT_THAT(std::string(status.message()), HasSubstr(place->Bad()));
        EXPECT_EQ(place->client().Wait(3).message(), status.message()) << "it stays";
        EXPECT_THAT(std::string(place->Cut(3).status().message()), HasSubstr(place->Bad()));
      }
      EXPECT_EQ(device.Bad(), host.Bad());
      EXPECT_THAT(device.Bad(),
                  HasSubstr(" at step 2 from replica 0 holds a value that is not finite, or makes "
                            "the sum overflow; lower the learning rate, or look at that replica's "
                            "data"));
      EXPECT_TRUE(device.Read(2) == host.Read(2)) << "what was saved before stays";
    }
  }
}

TEST_P(ResidenceTest, ACutMayBeAskedForWhenItsClockIsThere) {
  const Setting sgd{"sgd"};
  Place host(table_, sgd, kHost), device(table_, sgd, Gpu());
  for (Place* const place : {&host, &device}) {
    place->Begin();
    place->CutAt(0);
    ASSERT_TRUE(place->Cut(0).ok() && place->Connect().ok());
    ASSERT_TRUE(place->Train(0, 2).ok());
    place->CutAt(2);
    ASSERT_TRUE(place->Cut(2).ok());
    place->CutAt(1);
    ASSERT_TRUE(place->Train(2, 5).ok());
    place->Disconnect();
    place->CutAt(5);
    ASSERT_TRUE(place->Cut(5).ok());
    EXPECT_THAT(std::string(place->Cut(1).status().message()), HasSubstr("cannot save clock 1: "));
    ASSERT_TRUE(place->Connect().ok()) << "and trains on";
    ASSERT_TRUE(place->Train(5, 6).ok());
    place->CutAt(6);
  }
  for (const int64_t clock : {0, 2, 5, 6}) EXPECT_TRUE(device.Read(clock) == host.Read(clock));
}

TEST_P(ResidenceTest, CutsThatAreAskedForWhileStepsGoOnAreOfTheirClockOrRefused) {
  constexpr int64_t kSteps = 30;
  Place host(table_, {"momentum"}, kHost), device(table_, {"momentum"}, Gpu());
  for (Place* const place : {&host, &device}) place->Begin();
  for (int64_t clock = 0; clock <= kSteps; ++clock) host.CutAt(clock);
  ASSERT_TRUE(host.Cut(0).ok() && host.Connect().ok() && host.Train(0, kSteps).ok());
  ASSERT_TRUE(device.Connect().ok());
  std::thread asks([&] {
    for (int64_t clock = 0; clock <= kSteps; ++clock) device.CutAt(clock);
  });
  EXPECT_TRUE(device.Train(0, kSteps).ok());
  asks.join();
  int saved = 0;
  for (int64_t clock = 0; clock <= kSteps; ++clock) {
    if (const auto cut = device.Cut(clock); !cut.ok()) {
      EXPECT_THAT(std::string(cut.status().message()), HasSubstr("already"));
      continue;
    }
    ++saved;
    EXPECT_TRUE(device.Read(clock) == host.Read(clock)) << clock;
  }
  EXPECT_GE(saved, 1) << "the last one's clock stays";
}

TEST_P(ResidenceTest, EachStepHasToPushEachParameter) {
  Place place(table_, {"sgd"}, Gpu());
  place.Begin();
  ASSERT_TRUE(place.Connect().ok());
  EXPECT_EQ(place.Step(0, Gradient(table_, 0), /*missing=*/2).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_P(ResidenceTest, WhoeverEndsFirstTheOtherIsTold) {
  Place place(table_, {"sgd"}, Gpu());
  place.Begin();
  ASSERT_TRUE(place.Connect().ok());
  ASSERT_TRUE(place.Train(0, 1).ok());
  place.client().Cancel(absl::CancelledError("enough"));
  EXPECT_EQ(place.client().Wait(1), absl::CancelledError("enough"));
  place.Disconnect();
  ASSERT_TRUE(place.Connect().ok());
  place.EndServer();
  EXPECT_TRUE(absl::IsUnavailable(place.Step(1, Gradient(table_, 1))));
  place.Disconnect();
  EXPECT_TRUE(absl::IsUnavailable(place.Connect()));
}

TEST_P(ResidenceTest, ADeviceWithoutRoomIsAnErrorAndNotTheEnd) {
  muster::testing::HostGpuOptions gpu = Gpu();
  gpu.memory = 1000;
  Place place(table_, {"sgd"}, gpu), host(table_, {"sgd"}, kHost);
  place.Begin(), host.Begin();
  EXPECT_TRUE(absl::IsResourceExhausted(place.Connect()));
  place.CutAt(0), host.CutAt(0);
  EXPECT_TRUE(place.Read(0) == host.Read(0));
}

}  // namespace
}  // namespace muster::ps
