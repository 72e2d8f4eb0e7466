// What replicas have not sent yet: saved at the cuts and at no other clock, restored whatever the
// slices are, and refused when it is another's.
#include "ps/residuals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"
#include "tests/ps/servers.h"

namespace muster::ps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ResidualsTest : public testing::Test {
 protected:
  static constexpr int64_t kBig = 300'000;  // elements: in other slices with other servers

  std::unique_ptr<Client> Connect(Servers& servers) {
    servers.Initialize();
    auto client = ConnectWorker(servers, table_, 0);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  // Pushes step `step` of both replicas, each its own gradients.
  void Push(Client& client, int64_t step) {
    client.SetArena(weights_);
    for (const int32_t replica : {0, 1}) {
      std::vector<float>& own = gradients_[replica];
      for (size_t i = 0; i < own.size(); ++i) {
        own[i] = static_cast<float>((i * 7 + static_cast<size_t>(step) * 3) % 101) *
                 static_cast<float>(replica + 1);
      }
      for (ParamId p = 0; p < 3; ++p) {
        const auto size = static_cast<size_t>(table_.specs()[static_cast<size_t>(p)].size());
        client.Push(replica, step, p,
                    std::span(own).subspan(static_cast<size_t>(table_.offset(p)), size), p, true);
      }
    }
    EXPECT_TRUE(client.Wait(step + 1).ok());
  }
  // Of the parameters with a residual, one after the other.
  static std::vector<float> Values(Client& client, int32_t replica) {
    std::vector<float> all;
    const auto slices = client.Residuals(replica);
    EXPECT_TRUE(slices.ok()) << slices.status();
    for (const SavedSlice& slice : *slices) {
      all.insert(all.end(), slice.weights.begin(), slice.weights.end());
    }
    return all;
  }
  std::string Part(int64_t clock, int32_t replica) const {
    return ResidualPartPath(folder_.path() + "/step-" + std::to_string(clock), replica);
  }

  const ParamTable table_ =
      *ParamTable::Make({{.name = "big", .shape = {kBig}, .codec = *MakeCodec("topk")},
                         {.name = "rounded", .shape = {50}, .codec = *MakeCodec("fp16")},
                         {.name = "small", .shape = {10, 10}, .codec = *MakeCodec("int8")}});
  std::vector<float> weights_ = std::vector<float>(static_cast<size_t>(table_.arena_size()));
  std::vector<float> gradients_[2] = {weights_, weights_};
  const harness::TemporaryFolder folder_;
  std::vector<std::string> saved_;  // "clock replica", in this order, or errors
  const ResidualSaver::OnSaved note_ = [this](int64_t clock, int32_t replica,
                                              const std::string& file, const absl::Status& status) {
    EXPECT_EQ(file, Part(clock, replica));
    saved_.push_back(status.ok() ? fmt::format("{} {}", clock, replica)
                                 : std::string(status.message()));
  };
};

TEST_F(ResidualsTest, AreSavedAtTheCutsAndRestoredWhateverTheSlicesAre) {
  Servers one(table_, {.replicas = 2, .servers = 1});
  const auto client = Connect(one);
  std::vector<float> at_2[2];
  {
    ResidualSaver saver(*client, table_, one.partition(), {0, 1}, folder_.path(), note_);
    saver.AddCut(2);
    for (int64_t step = 0; step < 4; ++step) {
      Push(*client, step);
      if (step == 2) saver.AddCut(4);  // as when a run is stopped early
      saver.OnClock(step + 1);
      if (step == 1) at_2[0] = Values(*client, 0), at_2[1] = Values(*client, 1);
    }
  }
  EXPECT_THAT(saved_, ElementsAre("2 0", "2 1", "4 0", "4 1"));
  EXPECT_EQ(at_2[0].size(), static_cast<size_t>(kBig + 100)) << "fp16 keeps nothing back";
  EXPECT_NE(at_2[0], at_2[1]);
  EXPECT_NE(at_2[0], Values(*client, 0));

  Servers three(table_, {.replicas = 2, .servers = 3});
  const auto other = Connect(three);
  ASSERT_NE(one.partition().slices.size(), three.partition().slices.size());
  EXPECT_EQ(Values(*other, 0), std::vector<float>(kBig + 100)) << "none before the first push";
  for (const int32_t replica : {0, 1}) {
    const absl::Status restored =
        RestoreResiduals(*other, table_, replica, Part(2, replica), /*clock=*/2);
    ASSERT_TRUE(restored.ok()) << restored;
    EXPECT_EQ(Values(*other, replica), at_2[replica]);
  }
}

TEST_F(ResidualsTest, AnothersOrADamagedPartIsRefusedByName) {
  Servers servers(table_, {.replicas = 2});
  const auto client = Connect(servers);
  Push(*client, 0);
  {
    ResidualSaver saver(*client, table_, servers.partition(), {0, 1}, folder_.path(), note_);
    saver.AddCut(1);
    saver.OnClock(1);
  }
  const auto error = [&](int32_t replica, const std::string& file, int64_t clock) {
    return std::string(RestoreResiduals(*client, table_, replica, file, clock).message());
  };
  EXPECT_EQ(error(0, Part(1, 0), 1), "");
  EXPECT_THAT(error(1, Part(1, 0), 1), HasSubstr("is of replica 0 at clock 1, not of 1 at 1"));
  EXPECT_THAT(error(0, Part(1, 0), 2), HasSubstr("is of replica 0 at clock 1, not of 0 at 2"));
  EXPECT_THAT(error(0, Part(2, 0), 2), HasSubstr("cannot open"));

  auto bytes = ReadFile(Part(1, 0));
  ASSERT_TRUE(bytes.ok());
  bytes->back() ^= 1;
  ASSERT_TRUE(WriteFileAtomically(Part(1, 0), *bytes).ok());
  EXPECT_THAT(error(0, Part(1, 0), 1), HasSubstr("CRC"));
  bytes->resize(bytes->size() / 2);
  ASSERT_TRUE(WriteFileAtomically(Part(1, 0), *bytes).ok());
  EXPECT_THAT(error(0, Part(1, 0), 1), HasSubstr("truncated"));

  // A server's part: it has no replica.
  ASSERT_TRUE(WriteCheckpointPart(Part(1, 1), table_, servers.partition(), {}, 1, {}).ok());
  EXPECT_THAT(error(1, Part(1, 1), 1), HasSubstr("is of replica none"));
}

// As a late replica does where there are backup workers.
TEST_F(ResidualsTest, WhoSkipsACutSavesWhatItHadThen) {
  Servers servers(table_, {.replicas = 2});
  const auto client = Connect(servers);
  Push(*client, 0);
  {
    ResidualSaver saver(*client, table_, servers.partition(), {0}, folder_.path(), note_);
    for (const int64_t clock : {2, 3, 9}) saver.AddCut(clock);
    saver.OnClock(1);
    saver.OnClock(5);
    saver.OnClock(6);
  }
  EXPECT_THAT(saved_, ElementsAre("2 0", "3 0"));
}

TEST_F(ResidualsTest, WhatCannotBeWrittenIsTold) {
  Servers servers(table_, {.replicas = 2});
  const auto client = Connect(servers);
  std::ofstream(folder_.path() + "/step-1") << "a file where the folder shall be";
  {
    ResidualSaver saver(*client, table_, servers.partition(), {0}, folder_.path(), note_);
    saver.AddCut(1);
    saver.OnClock(1);
  }
  EXPECT_THAT(saved_, ElementsAre(HasSubstr("step-1")));
}

// As a device does that has failed.
TEST_F(ResidualsTest, WhatCannotBeBroughtIsTold) {
  struct Broken final : ReplicaEncoder {
    absl::Status BringResiduals(int32_t replica) override {
      return absl::InternalError(fmt::format("no way to the residuals of replica {}", replica));
    }
  } broken;
  Servers servers(table_, {.replicas = 2});
  const auto client = Connect(servers);
  (void)client->LeaveEncodingTo(broken, 1);
  {
    ResidualSaver saver(*client, table_, servers.partition(), {0, 1}, folder_.path(), note_);
    saver.AddCut(1);
    saver.OnClock(1);
  }
  EXPECT_THAT(saved_, ElementsAre("1 0", "no way to the residuals of replica 1"));
}

}  // namespace
}  // namespace muster::ps
