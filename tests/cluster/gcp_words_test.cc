// What is said to gcloud, what its answers mean, and which machine of Compute Engine stands for one
// that is asked for.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "cluster/gcp.h"
#include "cluster/gcp_machines.h"
#include "cluster/gcp_provider.h"
#include "cluster/watchdog.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

MachineOrder Order() {
  return {.job_id = "Job_1",
          .run = "mu0123456789abcdef",
          .owner = "me@here",
          .attempt = 2,
          .place = {"us-central1", "us-central1-b"},
          .lifetime_s = 3601};
}

constexpr char kKey[] = "ssh-ed25519 AAAA== muster";

TEST(GcpWords, AnImageIsMadeOfTheDiskThatHasTheMachinesName) {
  Gcp gcp;
  gcp.set_project("work");
  const Machine machine{.id = "mu1-1-worker-0", .place = {"us-central1", "us-central1-b"}};
  EXPECT_EQ(fmt::format("{}", fmt::join(CreateImageWords(gcp, machine, "kept"), " ")),
            "gcloud --quiet --project=work compute images create kept --source-disk=mu1-1-worker-0 "
            "--source-disk-zone=us-central1-b --labels=muster-image=kept");
}

TEST(GcpWords, WhatItTellsOfImagesIsReadOrRefused) {
  EXPECT_THAT(ListImagesWords({}, ""), Contains("--filter=labels.muster-image:*"));
  EXPECT_THAT(ListImagesWords({}, "kept"), Contains("--filter=name=kept"));
  const auto images = ParseGceImages("kept\tREADY\t2026-11-22\t10\tkept\nforeign\tREADY\t\t\t\n");
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_THAT(*images, SizeIs(2));
  EXPECT_EQ((*images)[0].id, "kept");
  EXPECT_EQ((*images)[0].gb, 10);
  EXPECT_TRUE((*images)[0].ours);
  EXPECT_FALSE((*images)[1].ours);
  for (const char* text : {"kept\n", "-x\tREADY\t\t1\tkept\n", "kept\tREADY\t\tten\tkept\n"}) {
    EXPECT_FALSE(ParseGceImages(text).ok()) << text;
  }
}

TEST(GcpWords, OneCallForAllMachinesOfAGroup) {
  Gcp gcp;
  gcp.set_project("work");
  gcp.set_disk_gb(100);
  const MachineGroup group{.role = Role::kWorker,
                           .count = 2,
                           .type = "n1-standard-8",
                           .accelerator = "NVIDIA_TESLA_T4",
                           .gpus = 1};
  const std::vector<std::string> words = BulkCreateWords(gcp, Order(), group, kKey);
  EXPECT_THAT(words, Contains("--project=work"));
  EXPECT_THAT(words, Contains("--predefined-names=mu0123456789abcdef-2-worker-0,"
                              "mu0123456789abcdef-2-worker-1"));
  EXPECT_THAT(words, Contains("--min-count=2")) << "all or none";
  EXPECT_THAT(words, Contains("--zone=us-central1-b"));
  EXPECT_THAT(words, Contains("--accelerator=type=nvidia-tesla-t4,count=1"));
  EXPECT_THAT(words, Contains("--on-host-maintenance=TERMINATE"));
  EXPECT_THAT(words, Contains("--boot-disk-size=100GB"));
  EXPECT_THAT(words, Contains("--image-family=debian-12"));
  EXPECT_THAT(words, Contains("--labels=muster-job=job_1,muster-role=worker,muster-attempt=2"));
  EXPECT_THAT(words, Contains("--metadata=muster-job=Job_1,muster-owner=me@here,enable-oslogin="
                              "FALSE,block-project-ssh-keys=TRUE,ssh-keys=muster:" +
                              std::string(kKey) + ",startup-script=#!/bin/sh\n" +
                              UnlessItStays("muster") + WatchdogScript("muster")));
  EXPECT_THAT(UnlessItStays("muster") + WatchdogScript("muster"), Not(HasSubstr(",")))
      << "which ends a value there";
  // The deadline is Compute Engine's own, and machines hold no credentials.
  EXPECT_THAT(words, Contains("--max-run-duration=3601s"));
  EXPECT_THAT(words, Contains("--instance-termination-action=DELETE"));
  EXPECT_THAT(words, AllOf(Contains("--no-service-account"), Contains("--no-scopes")));
  EXPECT_THAT(words, Not(Contains(HasSubstr("SPOT"))));
  // The same words again for the same call, other names in another place.
  EXPECT_EQ(words, BulkCreateWords(gcp, Order(), group, kKey));
  MachineOrder later = Order();
  ++later.attempt;
  EXPECT_NE(GceNames(later, group), GceNames(Order(), group));
  MachineGroup many = group;
  many.count = 1000;
  for (const std::string& name : GceNames(Order(), many)) EXPECT_LE(name.size(), 63u);
}

TEST(GcpWords, GpusThatAreBuiltInAreNotAttached) {
  const MachineGroup group{
      .count = 1, .type = "g2-standard-8", .accelerator = "NVIDIA_L4", .gpus = 1};
  const std::vector<std::string> words = BulkCreateWords({}, Order(), group, kKey);
  EXPECT_THAT(words, Not(Contains(HasSubstr("--accelerator"))));
  EXPECT_THAT(words, Contains("--on-host-maintenance=TERMINATE"));
}

TEST(GcpWords, ALabelHoldsWhatItCanOfAJobsId) {
  EXPECT_EQ(GceJobLabel("Speech_7"), "speech_7");
  EXPECT_THAT(GceJobLabel(std::string(128, 'J')), SizeIs(63));
  EXPECT_THAT(ListInstancesWords({}, "Speech_7"), Contains("--filter=labels.muster-job=speech_7"));
  EXPECT_THAT(ListInstancesWords({}, ""), Contains("--filter=labels.muster-job:*"));
}

TEST(GcpWords, MachinesAreReadFromTheLinesOfAList) {
  const auto machines = ParseGceInstances(
      "mu1-2-master-0\tRUNNING\tus-central1-a\t3.4.5.6\t10.0.0.1\tSTANDARD\tmaster\t2\tJob_1\tme@"
      "here\t"
      "\n"
      "mu1-2-worker-13\tPROVISIONING\tus-central1-a\t\t10.0.0.2\tSPOT\tworker\t2\tJob_1\tme@here\t"
      "waits\tlong\n"
      "mu1-2-ps-0\tSTOPPING\tus-central1-a\t\t\t\tps\t2\tJob_1\tme@here\t\n"
      "by-hand\tTERMINATED\teurope-west4-a\t\t10.0.0.4\t\t\t\t\t\t\n");
  ASSERT_TRUE(machines.ok()) << machines.status();
  ASSERT_THAT(*machines, SizeIs(4));
  EXPECT_EQ((*machines)[0].address, "3.4.5.6");
  EXPECT_EQ((*machines)[0].state, MachineState::kRunning);
  EXPECT_EQ((*machines)[0].place, (Place{"us-central1", "us-central1-a"}));
  EXPECT_EQ((*machines)[0].job_id, "Job_1");
  EXPECT_EQ((*machines)[1].address, "10.0.0.2");
  EXPECT_EQ((*machines)[1].role, Role::kWorker);
  EXPECT_EQ((*machines)[1].index, 13);
  EXPECT_EQ((*machines)[1].attempt, 2);
  EXPECT_TRUE((*machines)[1].spot);
  EXPECT_EQ((*machines)[1].reason, "waits\tlong");
  EXPECT_EQ((*machines)[2].state, MachineState::kStopped) << "there until it is listed no more";
  EXPECT_EQ((*machines)[3].state, MachineState::kStopped);
  EXPECT_EQ((*machines)[3].job_id, "");
  EXPECT_THAT(*ParseGceInstances("\n"), SizeIs(0));
}

TEST(GcpWords, WhatIsNoneOfItsLinesIsRefused) {
  const std::string good =
      "mu1-2-master-0\tRUNNING\tus-central1-a\t3.4.5.6\t10.0.0.1\t\tmaster\t2\tJob_1\tme@here\t\n";
  EXPECT_TRUE(ParseGceInstances(good).ok());
  EXPECT_FALSE(ParseGceInstances("{\"items\": []}").ok());
  EXPECT_FALSE(ParseGceInstances("--zone" + good.substr(6)).ok()) << "would be a word of delete";
  EXPECT_FALSE(ParseGceInstances("mu1\tDREAMING" + good.substr(22)).ok());
  EXPECT_FALSE(ParseGceRegion("CPUS\tmany\t0\tus-central1-a\n").ok());
  EXPECT_FALSE(ParseGceRegion("name: us-central1\n").ok());
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string text = good;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    const auto machines = ParseGceInstances(text);
    for (const Machine& machine : machines.ok() ? *machines : std::vector<Machine>()) {
      EXPECT_NE(machine.id[0], '-');
    }
    (void)ParseGceRegion(text).ok();
  }
}

TEST(GcpWords, RegionsHaveZonesAndQuotas) {
  const auto region = ParseGceRegion(
      "CPUS\t72.0\t8.0\tus-central1-b;us-central1-a\n"
      "N2_CPUS\t1e3\t0\tus-central1-b;us-central1-a\n");
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_THAT(region->zones, ElementsAre("us-central1-a", "us-central1-b"));
  EXPECT_EQ(region->quotas.at("CPUS").usage, 8);
  EXPECT_EQ(GceCpuQuota("n1-standard-8", *region), "CPUS");
  EXPECT_EQ(GceCpuQuota("n2-standard-8", *region), "N2_CPUS");
  EXPECT_EQ(GceGpuQuota("NVIDIA_TESLA_T4"), "NVIDIA_T4_GPUS");
  EXPECT_EQ(GceGpuQuota("NVIDIA_L4"), "NVIDIA_L4_GPUS");
  EXPECT_EQ(GceRegionOf("us-central1-a"), "us-central1");
  const auto project = ParseGceProject("NETWORKS\t5.0\t1.0\nGPUS_ALL_REGIONS\t4.0\t1.0\n");
  ASSERT_TRUE(project.ok()) << project.status();
  EXPECT_EQ(project->at("GPUS_ALL_REGIONS").limit, 4);
  EXPECT_FALSE(ParseGceProject("NETWORKS\tmany\t1.0\n").ok());
  EXPECT_FALSE(ParseGceProject("quotas: []\n").ok());
}

// As gcloud 528 prints them.
TEST(GcpWords, ComplaintsSayWhetherAnotherPlaceOrAnotherTryMayDo) {
  using absl::StatusCode;
  const std::string fetch = "ERROR: (gcloud.compute.x.describe) Could not fetch resource:\n - ";
  struct Case {
    std::string err;
    int code;
    StatusCode meaning;
    std::string text;
  };
  const Case cases[] = {
      {"ERROR: <ErrorsValueListEntry\n code: 'ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS'\n "
       "errorDetails: []\n message: \"The zone 'z' does not have enough resources available.\">\n",
       0, kNoRoomInZone, "The zone 'z' does not have enough resources available."},
      {"ERROR: Quota 'CPUS' exceeded.  Limit: 24.0 in region us-central1.\n", 0, kNoQuotaInRegion,
       "Quota 'CPUS' exceeded.  Limit: 24.0 in region us-central1: ask for more: gcloud"},
      {"ERROR: Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'\n", 0,
       StatusCode::kUnavailable, "Quota exceeded for quota metric"},
      {"ERROR: Internal error\n", 0, StatusCode::kUnavailable, "Internal error"},
      {"ERROR: gcloud crashed (ConnectionError): ('Connection aborted.', …)\n\nIf you would like "
       "to "
       "report this issue, please run the following command:\n  gcloud feedback\n",
       1, StatusCode::kUnavailable, "gcloud crashed"},
      // A list that is not whole must not pass for one.
      {"WARNING: Some requests did not succeed.\n - Something\n\n", 0, StatusCode::kUnavailable,
       "Something"},
      {"WARNING: Some requests did not succeed.\n - The resource 'projects/p/zones/z' was not "
       "found\n\n",
       0, StatusCode::kFailedPrecondition, "see cluster.gcp.zones"},
      {"ERROR: The resource 'projects/p/zones/z/instances/a-0' already exists\n", 0,
       StatusCode::kAlreadyExists, "already exists"},
      {fetch + "The resource 'projects/p/zones/z/instances/a-0' was not found\n - The resource …",
       1, StatusCode::kNotFound, "a-0"},
      {fetch + "The resource 'projects/p/regions/r' was not found\n", 1,
       StatusCode::kFailedPrecondition, "see cluster.gcp.regions"},
      {fetch + "The resource 'projects/p/global/images/family/f' was not found\n", 1,
       StatusCode::kFailedPrecondition, "see cluster.gcp.image"},
      {"ERROR: The resource 'projects/p/zones/z/acceleratorTypes/nvidia-tesla-t4' was not found\n",
       0, kNoRoomInZone, "nvidia-tesla-t4"},
      {fetch + "Failed to find project nobody\n", 1, StatusCode::kFailedPrecondition,
       "Failed to find project nobody: see cluster.gcp.project"},
      {fetch + "Compute Engine API has not been used in project 1 before or it is disabled.\n", 1,
       StatusCode::kFailedPrecondition, "gcloud services enable"},
      {"ERROR: Required 'compute.instances.create' permission for "
       "'projects/p/zones/z/instances/i'\n",
       0, StatusCode::kPermissionDenied, "ask whoever runs the project"},
      {"ERROR: (gcloud.compute.x) You do not currently have an active account selected.\nPlease "
       "run:\n\n  $ gcloud auth login\n",
       1, StatusCode::kUnauthenticated,
       "You do not currently have an active account selected: log in: gcloud auth login"},
      {"ERROR: (gcloud.compute.x) The required property [project] is not currently set.\n", 1,
       StatusCode::kFailedPrecondition, "write cluster.gcp.project"},
      {"ERROR: something new\n", 1, StatusCode::kFailedPrecondition, "something new"},
      {"", 1, StatusCode::kFailedPrecondition, "does not say why"},
  };
  for (const Case& c : cases) {
    const absl::Status status = JudgeGcloud({.err = c.err, .code = c.code});
    EXPECT_EQ(status.code(), c.meaning) << c.err << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.text));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos) << "more than one line";
  }
  EXPECT_TRUE(JudgeGcloud({.err = "Deleted [x].\n"}).ok());
  EXPECT_TRUE(
      JudgeGcloud({.err = "WARNING: The following filter keys were not present in any resource\n"})
          .ok());
}

// ---- the calls ---------------------------------------------------------------------------------

// A provider whose gcloud says `answer` to bulk create, and what was asked of it.
absl::Status CreateWhereItSays(const ToolResult& answer, std::vector<std::string>* asked) {
  Patience patience{.now_ms = [] { return 0; }, .pause = [](int64_t) { return true; }};
  const ToolRunner tools = [&](const std::vector<std::string>& words, int64_t, const std::string&) {
    asked->push_back(fmt::format("{}", fmt::join(words, " ")));
    return words[4] == "bulk" ? answer : ToolResult();
  };
  GcpProvider provider({}, kKey, tools, patience, nullptr);
  MachineOrder order = Order();
  order.groups = {{.count = 2, .type = "n1-standard-4"}};
  return provider.Create(order, [](const std::string&) { return absl::OkStatus(); });
}

TEST(GcpProvider, WhatARefusedCallHasBegunWithIsTakenBack) {
  std::vector<std::string> asked;
  EXPECT_EQ(CreateWhereItSays({.err = "ERROR: ZONE_RESOURCE_POOL_EXHAUSTED\n"}, &asked).code(),
            kNoRoomInZone);
  ASSERT_THAT(asked, SizeIs(2));
  EXPECT_THAT(asked[1], AllOf(HasSubstr("instances delete --zone=us-central1-b"),
                              HasSubstr("mu0123456789abcdef-2-master-0 "),
                              HasSubstr("mu0123456789abcdef-2-master-1")));
}

TEST(GcpProvider, SilenceIsNoMachine) {
  std::vector<std::string> asked;
  EXPECT_TRUE(absl::IsInternal(CreateWhereItSays({.out = "[]\n"}, &asked)));
  EXPECT_TRUE(
      CreateWhereItSays({.err = "Bulk create request finished with status message: […]"}, &asked)
          .ok());
}

// ---- machine types -----------------------------------------------------------------------------

std::string GceFor(const MachineNeed& need) {
  const auto type = GceTypeFor(need, Catalog::BuiltIn());
  if (!type.ok()) return std::string(type.status().message());
  if (type->accelerators == 0) return type->type;
  return fmt::format("{} {} x {}", type->type, type->accelerators, type->accelerator);
}

TEST(GcpMachines, LegacyTypesAreTheirShapeAndOwnTypesThemselves) {
  const Catalog catalog = Catalog::BuiltIn();
  for (const MachineType& asked : catalog.machine_types()) {
    if (asked.is_tpu() || asked.category == MachineType::Category::kEc2) continue;
    const auto type = GceTypeFor({.type = asked.name,
                                  .vcpus = asked.vcpus,
                                  .memory_gb = asked.memory_gb,
                                  .accelerator = asked.accelerator,
                                  .accelerators = asked.accelerator_count},
                                 catalog);
    ASSERT_TRUE(type.ok()) << asked.name << ": " << type.status();
    EXPECT_GE(type->vcpus, asked.vcpus) << asked.name;
    EXPECT_GE(type->memory_gb, asked.memory_gb) << asked.name;
    EXPECT_GE(type->accelerators, asked.accelerator_count) << asked.name;
    EXPECT_TRUE(type->price.has_value()) << asked.name;
    if (type->accelerator != "NVIDIA_L4") {
      EXPECT_EQ(type->type, asked.shape);
    }
  }
  EXPECT_EQ(GceFor({.type = "complex_model_s", .vcpus = 8, .memory_gb = 7.2}), "n1-highcpu-8");
}

TEST(GcpMachines, GpusThatAreGoneHaveStandIns) {
  EXPECT_EQ(GceFor({"standard_gpu", 8, 30, "NVIDIA_TESLA_K80", 1}),
            "n1-standard-8 1 x NVIDIA_TESLA_T4");
  EXPECT_EQ(GceFor({"complex_model_m_p100", 16, 60, "NVIDIA_TESLA_P100", 4}),
            "n1-standard-16 4 x NVIDIA_TESLA_T4");
  EXPECT_EQ(GceFor({"standard_v100", 8, 30, "NVIDIA_TESLA_V100", 1}),
            "g2-standard-8 1 x NVIDIA_L4");
  EXPECT_EQ(GceFor({"large_model_v100", 8, 52, "NVIDIA_TESLA_V100", 1}),
            "g2-standard-16 1 x NVIDIA_L4");
  EXPECT_EQ(GceFor({"complex_model_m_v100", 16, 60, "NVIDIA_TESLA_V100", 4}),
            "g2-standard-48 4 x NVIDIA_L4");
  EXPECT_EQ(GceFor({"complex_model_l_gpu", 32, 120, "NVIDIA_TESLA_K80", 8}),
            "g2-standard-96 8 x NVIDIA_L4");
}

TEST(GcpMachines, T4sAreOneTwoOrFour) {
  EXPECT_EQ(GceFor({"n1-standard-8", 8, 30, "NVIDIA_TESLA_T4", 3}),
            "n1-standard-8 4 x NVIDIA_TESLA_T4");
  EXPECT_EQ(GceFor({"n1-standard-64", 64, 240, "NVIDIA_TESLA_T4", 1}),
            "n1-standard-64 4 x NVIDIA_TESLA_T4");
  EXPECT_THAT(GceFor({"n1-highmem-96", 96, 624, "NVIDIA_TESLA_T4", 8}),
              HasSubstr("no Compute Engine type"));
}

TEST(GcpMachines, AnEc2TypeIsTheCheapestThatIsLargeEnough) {
  EXPECT_EQ(GceFor({.type = "c6i.4xlarge", .vcpus = 16, .memory_gb = 32}), "n1-standard-16");
  EXPECT_EQ(GceFor({"g4dn.xlarge", 4, 16, "NVIDIA_TESLA_T4", 1}),
            "n1-highmem-4 1 x NVIDIA_TESLA_T4");
  EXPECT_THAT(GceFor({"p5.4xlarge", 16, 256, "NVIDIA_H100", 1}),
              HasSubstr("no Compute Engine type"));
}

TEST(GcpMachines, PricesOfOtherRegionsAreThoseOfTheFamily) {
  const Catalog catalog = Catalog::BuiltIn();
  const auto cpus = GceTypeFor({.type = "n1-standard-4", .vcpus = 4, .memory_gb = 15}, catalog);
  const auto prices = GcePrices(*cpus, catalog);
  EXPECT_DOUBLE_EQ(prices.at("us-central1").usd_per_hour, 0.19);
  EXPECT_NEAR(prices.at("europe-west4").usd_per_hour, 0.19 * 1.1009, 1e-4);
  EXPECT_FALSE(prices.contains("nowhere-1"));
  const auto l4 =
      GcePrices(*GceTypeFor({"standard_v100", 8, 30, "NVIDIA_TESLA_V100", 1}, catalog), catalog);
  EXPECT_GT(l4.at("asia-northeast1").usd_per_hour, l4.at("us-central1").usd_per_hour);
  EXPECT_FALSE(l4.contains("africa-south1")) << "it is not known to have any";
  const auto t4 =
      GcePrices(*GceTypeFor({"standard_gpu", 8, 30, "NVIDIA_TESLA_K80", 1}, catalog), catalog);
  EXPECT_THAT(t4, SizeIs(1)) << "T4s have a price of their own in each region";
}

TEST(GcpMachines, ThePriceIsTheMachinesAndItsGpus) {
  const auto type = GceTypeFor({"n1-standard-8", 8, 30, "NVIDIA_TESLA_T4", 2}, Catalog::BuiltIn());
  ASSERT_TRUE(type.ok());
  EXPECT_NEAR(type->price->usd_per_hour, 0.38 + 2 * 0.35, 1e-9);
  EXPECT_EQ(type->price->date, "2019-11") << "the older of two";
}

}  // namespace
}  // namespace muster::cluster
