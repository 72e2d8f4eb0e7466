// What providers ask before anything is made: begun at once where that can be, not asked again for
// a day where it stays as it is, and refused in words where it does not do.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cluster/gcp_provider.h"
#include "tests/cluster/node_set_world.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Words = std::vector<std::string>;

class ProviderCheckTest : public ::testing::TestWithParam<CloudKind> {
 protected:
  // Checks the order, and notes what is begun and what is asked.
  absl::Status Check(const MachineOrder& order) {
    begun_.clear();
    asked_.clear();
    const auto provider = MakeProvider(
        {.cluster = world_.cluster,
         .tools =
             [this](const Words& words, int64_t timeout_ms, const std::string& input) {
               asked_.push_back(words);
               if (begun_before_ == 0) begun_before_ = begun_.size();
               return world_.tools(words, timeout_ms, input);
             },
         .patience = world_.patience,
         .public_key = "key",
         .shortcuts = {.begin = [this](const Words& words) { begun_.push_back(words); },
                       .folder = DayFolder(folder_.path() + "/facts")}});
    begun_before_ = 0;
    return provider->Check(order).status();
  }
  bool WasAsked(const std::string& word) const {
    return std::ranges::any_of(
        asked_, [&](const Words& words) { return std::ranges::count(words, word) > 0; });
  }

  const harness::TemporaryFolder folder_;
  World world_{GetParam(), {.room = {{"us-east1-a", 9}, {"eu-west1-a", 9}}}};
  std::vector<Words> begun_, asked_;
  size_t begun_before_ = 0;  // the first answer was waited for
};

TEST_P(ProviderCheckTest, WhatDependsOnNothingIsBegunBeforeTheFirstAnswerIsWaitedFor) {
  ASSERT_TRUE(Check(OrderOf(2, 1)).ok());
  EXPECT_GE(begun_before_, 3u) << "two regions and an image at least";
  // What is begun in vain costs a second of a processor.
  for (const Words& words : begun_) {
    EXPECT_THAT(asked_, Contains(words)) << fmt::format("{}", fmt::join(words, " "));
  }
}

TEST_P(ProviderCheckTest, WhatStaysAsItIsIsAskedOnceADay) {
  ASSERT_TRUE(Check(OrderOf(2, 1)).ok());
  const std::vector<Words> first = asked_;
  ASSERT_TRUE(Check(OrderOf(2, 1)).ok());
  EXPECT_LT(asked_.size(), first.size());
  const bool aws = GetParam().provider == Cluster::AWS;
  const std::string zones = aws ? "describe-instance-type-offerings" : "machine-types",
                    image = aws ? "describe-images" : "images",
                    quota = aws ? "get-service-quota" : "regions";
  EXPECT_FALSE(WasAsked(zones));
  EXPECT_FALSE(WasAsked(image));
  EXPECT_TRUE(WasAsked(quota)) << "may be another by now";
  world_.now_ms += kDayMs;
  ASSERT_TRUE(Check(OrderOf(2, 1)).ok());
  EXPECT_EQ(asked_.size(), first.size());
}

INSTANTIATE_TEST_SUITE_P(Providers, ProviderCheckTest, ::testing::ValuesIn(kCloudKinds),
                         [](const auto& info) {
                           return Cluster::Provider_Name(info.param.provider);
                         });

// ---- the project's quota of GPUs, Compute Engine's ---------------------------------------------

class GpuQuotaTest : public ::testing::Test {
 protected:
  // Of a project that allows `limit` GPUs, of which one is used; its region allows 16.
  absl::StatusOr<std::vector<std::string>> Check(const MachineGroup& workers,
                                                 const std::string& project) {
    const Patience patience{.now_ms = [] { return 0; }, .pause = [](int64_t) { return true; }};
    const ToolRunner tools = [&](const Words& words, int64_t, const std::string&) {
      const std::string said = fmt::format("{}", fmt::join(words, " "));
      if (said.find("project-info") != said.npos) {
        ++asked_;
        return ToolResult{.out = project};
      }
      if (said.find("regions describe") != said.npos) {
        return ToolResult{.out =
                              "CPUS\t500\t0\tr1-a\nNVIDIA_T4_GPUS\t16\t0\tr1-a\n"
                              "PREEMPTIBLE_NVIDIA_T4_GPUS\t16\t0\tr1-a\n"};
      }
      if (said.find("images") != said.npos) return ToolResult{.out = "debian\tX86_64\n"};
      return ToolResult{.out = "n1-standard-8\tr1-a\n"};
    };
    Gcp gcp;
    gcp.set_project("work");
    gcp.add_regions("r1");
    GcpProvider provider(gcp, "key", tools, patience, nullptr);
    MachineOrder order;
    order.groups = {workers};
    return provider.Check(order);
  }
  MachineGroup Workers(int64_t count) {
    return {.role = Role::kWorker,
            .count = count,
            .type = "n1-standard-8",
            .vcpus = 8,
            .accelerator = "NVIDIA_TESLA_T4",
            .gpus = 2};
  }

  int asked_ = 0;
};

TEST_F(GpuQuotaTest, AllGpusTogetherAreToFitToo) {
  const auto enough = Check(Workers(1), "NETWORKS\t5\t1\nGPUS_ALL_REGIONS\t4.0\t1.0\n");
  ASSERT_TRUE(enough.ok()) << enough.status();
  EXPECT_THAT(*enough, Contains("the project: quota GPUS_ALL_REGIONS: 3 of 4 free, 2 needed"));
  const auto few = Check(Workers(3), "GPUS_ALL_REGIONS\t4.0\t1.0\n");
  EXPECT_THAT(std::string(few.status().message()),
              AllOf(HasSubstr("the project: quota GPUS_ALL_REGIONS: 3 of 4 free, 6 needed; ask for "
                              "more: gcloud beta quotas preferences create "
                              "--service=compute.googleapis.com --project=work "
                              "--quota-id=GPUS-ALL-REGIONS-per-project --preferred-value=7"),
                    HasSubstr("r1: quota NVIDIA_T4_GPUS: 16 of 16 free, 6 needed")));
}

TEST_F(GpuQuotaTest, WhatIsNotToldDoesNotHinder) {
  for (const char* project : {"", "NETWORKS\t5\t1\n", "quotas: []\n"}) {
    const auto found = Check(Workers(3), project);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(*found, Contains(HasSubstr("quota not known: GPUS_ALL_REGIONS (6 needed)")));
  }
}

TEST_F(GpuQuotaTest, ItIsAskedOnlyForGpusOnDemand) {
  MachineGroup workers = Workers(3);
  workers.spot = true;
  ASSERT_TRUE(Check(workers, "GPUS_ALL_REGIONS\t0\t0\n").ok());
  workers = Workers(3);
  workers.gpus = 0;
  workers.accelerator = "";
  ASSERT_TRUE(Check(workers, "GPUS_ALL_REGIONS\t0\t0\n").ok());
  EXPECT_EQ(asked_, 0);
}

}  // namespace
}  // namespace muster::cluster
