// What is said to aws, what its answers mean, and which EC2 type stands for a machine.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "cluster/aws.h"
#include "cluster/aws_deadline.h"
#include "cluster/aws_image.h"
#include "cluster/aws_machines.h"
#include "cluster/aws_prices.h"
#include "cluster/watchdog.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

MachineOrder Order() {
  return {.job_id = "job_1",
          .run = "mu0123",
          .owner = "me@here",
          .attempt = 2,
          .place = {"us-east-1", "us-east-1b"},
          .lifetime_s = 3601};
}

std::string After(const std::vector<std::string>& words, const std::string& flag) {
  const auto it = std::find(words.begin(), words.end(), flag);
  return it == words.end() || it + 1 == words.end() ? "" : *(it + 1);
}

TEST(AwsWords, OneCallForAllMachinesOfAGroup) {
  Aws aws;
  aws.set_disk_gb(100);
  aws.set_profile("work");
  const MachineGroup group{.role = Role::kWorker, .count = 4, .type = "g5.xlarge"};
  const std::vector<std::string> words = RunInstancesWords(aws, Order(), group,
                                                           {.image = "ami-1",
                                                            .root_device = "/dev/xvda",
                                                            .security_groups = {"sg-1", "sg-2"},
                                                            .first_script = "#!/bin/sh\n"});
  EXPECT_EQ(words[0], "aws");
  EXPECT_EQ(After(words, "--profile"), "work");
  EXPECT_EQ(After(words, "--region"), "us-east-1");
  EXPECT_EQ(After(words, "--count"), "4") << "both the least and the most";
  EXPECT_EQ(After(words, "--client-token"), "mu0123-2-worker");
  EXPECT_EQ(After(words, "--instance-initiated-shutdown-behavior"), "terminate");
  EXPECT_EQ(After(words, "--placement"), "AvailabilityZone=us-east-1b");
  EXPECT_EQ(After(words, "--block-device-mappings"),
            "DeviceName=/dev/xvda,Ebs={VolumeSize=100,VolumeType=gp3,DeleteOnTermination=true}");
  EXPECT_EQ(
      After(words, "--tag-specifications"),
      "ResourceType=instance,Tags=[{Key=Name,Value=job_1-worker},{Key=muster-job,Value=job_1},"
      "{Key=muster-role,Value=worker},{Key=muster-attempt,Value=2},"
      "{Key=muster-first,Value=0},{Key=muster-owner,Value=me@here}]");
  EXPECT_THAT(words, Contains(HasSubstr("ResourceType=volume,Tags=[{Key=Name")));
  EXPECT_THAT(words, Not(Contains("--instance-market-options")));
  EXPECT_THAT(words, Not(Contains("--dry-run")));
  // The same words again for the same call, others for another place.
  EXPECT_EQ(words, RunInstancesWords(aws, Order(), group,
                                     {.image = "ami-1",
                                      .root_device = "/dev/xvda",
                                      .security_groups = {"sg-1", "sg-2"},
                                      .first_script = "#!/bin/sh\n"}));
  MachineOrder later = Order();
  ++later.attempt;
  EXPECT_NE(Ec2Token(later, group), Ec2Token(Order(), group));
  EXPECT_LE(Ec2Token(later, group).size(), 64u);
}

TEST(AwsWords, SpotMachinesAreAskedForOnceAndForAPriceAtMost) {
  MachineGroup group{.role = Role::kWorker, .count = 2, .type = "g5.xlarge", .spot = true};
  const auto market = [&] {
    return After(RunInstancesWords({}, Order(), group, {}), "--instance-market-options");
  };
  EXPECT_EQ(market(),
            "MarketType=spot,SpotOptions={SpotInstanceType=one-time,"
            "InstanceInterruptionBehavior=terminate}");
  group.max_price = 0.25;
  EXPECT_EQ(market(),
            "MarketType=spot,SpotOptions={MaxPrice=0.2500,SpotInstanceType=one-time,"
            "InstanceInterruptionBehavior=terminate}");
}

TEST(AwsWords, SpotPricesOfTheLastDay) {
  const std::vector<std::string> words =
      SpotPriceWords({}, "us-east-1", {"g5.xlarge", "m6i.large"}, 1'000);
  EXPECT_EQ(After(words, "--start-time"), "1970-01-01T00:00:01.000Z");
  EXPECT_EQ(words.back(), "m6i.large");
  EXPECT_EQ(words[words.size() - 2], "g5.xlarge");
  const auto prices = ParseSpotPrices(
      "g5.xlarge\tus-east-1b\t0.412300\t2026-11-22T05:01:11+00:00\n"
      "g5.xlarge\tus-west-2-lax-1a\t0.5\t2026-11-22T05:01:11.000Z\n");
  ASSERT_TRUE(prices.ok()) << prices.status();
  ASSERT_THAT(*prices, SizeIs(2));
  EXPECT_EQ((*prices)[0].type, "g5.xlarge");
  EXPECT_EQ((*prices)[0].region, "us-east-1");
  EXPECT_EQ((*prices)[0].zone, "us-east-1b");
  EXPECT_DOUBLE_EQ((*prices)[0].usd_per_hour, 0.4123);
  EXPECT_EQ((*prices)[0].since_ms, (*prices)[1].since_ms);
  EXPECT_EQ((*prices)[1].region, "us-west-2");
  for (const char* bad :
       {"g5.xlarge\tus-east-1b\t0.4", "g5.xlarge\tus-east-1b\tfree\t2026-11-22T05:01:11Z",
        "g5.xlarge\tus-east-1b\tnan\t2026-11-22T05:01:11Z",
        "g5.xlarge\tus-east-1b\t-1\t2026-11-22T05:01:11Z",
        "g5.xlarge\tus-east-1b\t0.4\tyesterday"}) {
    EXPECT_FALSE(ParseSpotPrices(bad).ok()) << bad;
  }
}

// A product of the price list, as AWS tells it: a text that is JSON itself.
std::string Product(const std::string& type, const std::string& region, const std::string& terms,
                    const std::string& kind = "AWS Region") {
  return fmt::format(
      R"({{"product":{{"productFamily":"Compute Instance","attributes":{{"instanceType":"{}",)"
      R"("regionCode":"{}","locationType":"{}"}},"sku":"X"}},"serviceCode":"AmazonEC2",)"
      R"("terms":{}}})",
      type, region, kind, terms);
}
std::string OnDemand(const std::string& unit, const std::string& usd) {
  return fmt::format(
      R"({{"OnDemand":{{"X.J":{{"priceDimensions":{{"X.J.6":{{"unit":"{}","pricePerUnit":)"
      R"({{"USD":"{}"}}}}}}}}}},"Reserved":{{"X.R":{{"priceDimensions":{{"X.R.2":{{"unit":"Hrs",)"
      R"("pricePerUnit":{{"USD":"0.0100000000"}}}}}}}}}}}})",
      unit, usd);
}

TEST(AwsWords, PricesOnDemandOfAllRegionsAreOneQuestion) {
  const std::vector<std::string> words = OnDemandPriceWords({}, {"g5.xlarge", "m6i.large"});
  EXPECT_EQ(After(words, "--region"), "us-east-1") << "where the price list is";
  EXPECT_THAT(
      After(words, "--filters"),
      HasSubstr(R"({"Field":"instanceType","Type":"ANY_OF","Value":"g5.xlarge,m6i.large"})"));
  const nlohmann::json list = {
      Product("m6i.large", "us-east-1", OnDemand("Hrs", "0.0960000000")),
      Product("m6i.large", "eu-central-1", OnDemand("Hrs", "0.1150000000")),
      Product("m6i.large", "us-west-2-lax-1", OnDemand("Hrs", "0.05"), "AWS Local Zone"),
      Product("m6i.large", "eu-west-1", OnDemand("Hrs", "0.0000000000")),
      Product("m6i.large", "eu-west-2", OnDemand("Quantity", "9")),
      Product("m6i.large", "eu-west-3", "{}")};
  const auto prices = ParseOnDemandPrices(list.dump(4));
  ASSERT_TRUE(prices.ok()) << prices.status();
  EXPECT_THAT(*prices, ElementsAre(RegionPrice{"m6i.large", "us-east-1", 0.096},
                                   RegionPrice{"m6i.large", "eu-central-1", 0.115}));
  EXPECT_THAT(*ParseOnDemandPrices("[]\n"), SizeIs(0));
  for (const char* bad : {"", "None\n", "{}", "[{}]", "[\"\"]", "[\"[1]\"]", "[\"{}\"]"}) {
    EXPECT_FALSE(ParseOnDemandPrices(bad).ok()) << bad;
  }
  const std::string good = list.dump();
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string text = good;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    const auto read = ParseOnDemandPrices(text);
    for (const RegionPrice& price : read.ok() ? *read : std::vector<RegionPrice>()) {
      EXPECT_GT(price.usd_per_hour, 0);
    }
  }
}

TEST(AwsWords, TheFirstScriptTurnsTheMachineOffBeforeItLetsAnybodyIn) {
  Aws aws;
  const std::string script = UserDataOf(aws, "ssh-ed25519 AAAA muster", 3601);
  EXPECT_LT(script.find("shutdown -P +$left\n"), script.find("ssh-ed25519 AAAA muster"));
  EXPECT_THAT(script, HasSubstr("getent passwd admin"));
  EXPECT_THAT(script, HasSubstr(WatchdogScript("admin")));
  EXPECT_THAT(script, Not(HasSubstr("PRIVATE")));
}

// Runs the timers of a first script with a clock, a disk and a `shutdown` of the test's.
class FirstScriptTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_.path() + "/bin");
    Program("date", "cat " + folder_.path() + "/now");
    Program("shutdown", "echo \"$@\" >>" + folder_.path() + "/said");
    Program("setsid", "exit");  // the watchdog
    std::string script = UserDataOf({}, "key", 3601);
    script = script.substr(0, script.find("home="));
    const std::string boot = "/var/lib/cloud";
    script.replace(script.find(boot), boot.size(), folder_.path() + "/disk");
    Write("first", script);
  }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.path() + "/" + name) << text;
  }
  void Program(const std::string& name, const std::string& text) const {
    Write("bin/" + name, "#!/bin/sh\n" + text + "\n");
    fs::permissions(folder_.path() + "/bin/" + name, fs::perms::owner_all);
  }
  // What a script says to `shutdown` at a time.
  std::string Shutdown(const std::string& script, int64_t now_s) const {
    Write("now", fmt::format("{}", now_s));
    Write("said", "");
    const std::string line = fmt::format("PATH={0}/bin:$PATH {0}/{1}", folder_.path(), script);
    EXPECT_EQ(std::system(line.c_str()), 0);
    std::ifstream said(folder_.path() + "/said");
    std::string text;
    std::getline(said, text);
    return text;
  }

  const harness::TemporaryFolder folder_;
};

TEST_F(FirstScriptTest, TheEndOfAMachineStaysWhereItIsWhenItStartsAgain) {
  fs::permissions(folder_.path() + "/first", fs::perms::owner_all);
  EXPECT_EQ(Shutdown("first", 1'000'000), "-P +61");
  const std::string again = "disk/scripts/per-boot/muster-timers";
  EXPECT_EQ(Shutdown(again, 1'000'000), "-P +61");
  EXPECT_EQ(Shutdown(again, 1'000'000 + 1'800), "-P +31");
  EXPECT_EQ(Shutdown(again, 1'000'000 + 3'601), "-P +0");
  EXPECT_EQ(Shutdown(again, 1'000'000 + 999'999), "-P +0");
}

TEST(AwsWords, AnImageIsTaggedAndFoundByItsName) {
  const Machine machine{.id = "i-1", .owner = "me@here", .place = {"us-east-1", "us-east-1a"}};
  const std::vector<std::string> words = CreateImageWords({}, machine, "kept");
  EXPECT_EQ(After(words, "--region"), "us-east-1");
  EXPECT_EQ(After(words, "--instance-id"), "i-1");
  EXPECT_EQ(After(words, "--name"), "kept");
  for (const char* kind : {"image", "snapshot"}) {
    EXPECT_THAT(words, Contains(fmt::format("ResourceType={},Tags=[{{Key=Name,Value=kept}},{{Key="
                                            "muster-image,Value=kept}},{{Key=muster-owner,Value="
                                            "me@here}}]",
                                            kind)));
  }
  EXPECT_EQ(After(FindImageWords({}, "us-east-1", "kept"), "--filters"), "Name=name,Values=kept");
  EXPECT_THAT(FindImageWords({}, "us-east-1", "kept"), Contains("self")) << "nobody else's";
}

// What becomes of a machine's image, answer by answer.
TEST(AwsWords, AnImageIsWaitedForAndAskedForOnceAlthoughAnswersAreLost) {
  int64_t now_ms = 0;
  const Patience patience{.now_ms = [&] { return now_ms; },
                          .pause =
                              [&](int64_t ms) {
                                now_ms += ms;
                                return true;
                              }};
  const auto make = [&](std::vector<std::string> states, std::vector<std::string> refusals,
                        std::vector<std::string>* asked) {
    const ToolRunner tools = [&](const std::vector<std::string>& words, int64_t,
                                 const std::string&) -> absl::StatusOr<ToolResult> {
      const bool create = std::ranges::count(words, "create-image") > 0;
      asked->emplace_back(create ? "create" : "find");
      std::vector<std::string>& from = create ? refusals : states;
      std::string next = from.empty() ? "" : from.front();
      if (!from.empty()) from.erase(from.begin());
      if (!create) return ToolResult{.out = next.empty() ? "" : "ami-1\t" + next + "\n"};
      if (next.empty()) return ToolResult{.out = "ami-1\n"};
      return ToolResult{.err = "An error occurred (" + next + ") when calling: Because.\n",
                        .code = 254};
    };
    const CloudTool tool(tools, patience, JudgeAws, "no aws");
    return MakeEc2Image({}, tool, patience, {.id = "i-1"}, "kept");
  };
  using Asked = std::vector<std::string>;
  Asked asked;
  EXPECT_EQ(*make({"pending", "pending", "available"}, {}, &asked), "ami-1");
  EXPECT_EQ(asked, (Asked{"create", "find", "find", "find"}));
  asked.clear();
  EXPECT_EQ(*make({"available"}, {"InvalidAMIName.Duplicate"}, &asked), "ami-1");
  asked.clear();
  EXPECT_EQ(*make({"", "available"}, Asked(5, "IncorrectInstanceState"), &asked), "ami-1");
  EXPECT_EQ(std::ranges::count(asked, "create"), 6) << "until it has stopped";
  asked.clear();
  EXPECT_THAT(std::string(make({"failed"}, {}, &asked).status().message()),
              HasSubstr("kept (ami-1) is failed"));
  EXPECT_EQ(make({}, {"UnauthorizedOperation"}, &asked).status().code(),
            absl::StatusCode::kPermissionDenied);
}

TEST(AwsWords, AnEntryOfTheSchedulerEndsOneMachineAndIsGone) {
  Aws aws;
  aws.set_scheduler_role("arn:aws-cn:iam::123456789012:role/ends");
  const std::vector<std::string> words =
      CreateDeadlineWords(aws, Order(), "i-0123456789abcdef0", 1'766'000'000'999);
  EXPECT_EQ(After(words, "--schedule-expression"), "at(2025-12-17T19:33:20)");
  EXPECT_EQ(After(words, "--action-after-completion"), "DELETE");
  EXPECT_EQ(After(words, "--region"), "us-east-1");
  const auto target = nlohmann::json::parse(After(words, "--target"));
  EXPECT_EQ(target["Arn"], "arn:aws-cn:scheduler:::aws-sdk:ec2:terminateInstances");
  EXPECT_EQ(target["RoleArn"], aws.scheduler_role());
  EXPECT_EQ(nlohmann::json::parse(target["Input"].get<std::string>()),
            nlohmann::json::parse(R"({"InstanceIds": ["i-0123456789abcdef0"]})"));
  // Found again by its job, and by no other, however long the names are.
  const std::string job(128, 'j');
  const std::string name = DeadlineName(job, "i-0123456789abcdef0");
  EXPECT_LE(name.size(), 64u);
  EXPECT_TRUE(name.starts_with(DeadlinePrefix(job)));
  EXPECT_FALSE(name.starts_with(DeadlinePrefix(job.substr(1))));
  EXPECT_FALSE(DeadlineName("job_10", "i-1").starts_with(DeadlinePrefix("job_1")));
}

TEST(AwsWords, MachinesAreReadFromTheLinesOfDescribeInstances) {
  const auto machines = ParseInstances(
      "i-1\trunning\t3.4.5.6\t10.0.0.1\tus-east-1a\tNone\t0\tjob_1\tmaster\t2\tme@here\t0\tNone\n"
      "i-2\tpending\tNone\t10.0.0.2\tus-east-1a\tspot\t1\tjob_1\tworker\t2\tme@here\t2\tNone\n"
      "i-3\tterminated\tNone\tNone\tus-east-1a\tNone\t1\tjob_1\tps\t1\tme@here\t0\tServer."
      "InsufficientInstanceCapacity: no room\n"
      "i-4\tstopped\tNone\t10.0.0.4\tus-east-1a\tNone\t0\tjob_1\tNone\tNone\tNone\tNone\tNone\n",
      "us-east-1");
  ASSERT_TRUE(machines.ok()) << machines.status();
  ASSERT_THAT(*machines, SizeIs(4));
  EXPECT_EQ((*machines)[0].address, "3.4.5.6");
  EXPECT_EQ((*machines)[0].state, MachineState::kRunning);
  EXPECT_EQ((*machines)[1].address, "10.0.0.2");
  EXPECT_EQ((*machines)[1].role, Role::kWorker);
  EXPECT_EQ((*machines)[1].index, 3);
  EXPECT_TRUE((*machines)[1].spot);
  EXPECT_EQ((*machines)[2].state, MachineState::kGone);
  EXPECT_THAT((*machines)[2].reason, HasSubstr("no room"));
  EXPECT_EQ((*machines)[3].state, MachineState::kStopped);
  EXPECT_THAT(*ParseInstances("\n", "r"), SizeIs(0));
}

TEST(AwsWords, WhatIsNoneOfItsLinesIsRefused) {
  const std::string good =
      "i-1\trunning\t3.4.5.6\t10.0.0.1\tus-east-1a\tNone\t0\tjob_1\tmaster\t2\tme@here\t0\tNone\n";
  EXPECT_FALSE(ParseInstances("{\"Reservations\": []}", "r").ok());
  EXPECT_FALSE(ParseInstances("x-1" + good.substr(3), "r").ok());
  EXPECT_FALSE(ParseInstances("i-1\tdreaming" + good.substr(11), "r").ok());
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string text = good;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    (void)ParseInstances(text, "r").ok();
  }
}

std::string Said(const std::string& code) {
  return "\nAn error occurred (" + code + ") when calling the RunInstances operation: Because.\n";
}

TEST(AwsWords, ComplaintsSayWhetherAnotherPlaceOrAnotherTryMayDo) {
  using absl::StatusCode;
  const std::pair<std::string, StatusCode> cases[] = {
      {Said("InsufficientInstanceCapacity"), kNoRoomInZone},
      {Said("Unsupported"), kNoRoomInZone},
      {Said("VcpuLimitExceeded"), kNoQuotaInRegion},
      {Said("MaxSpotInstanceCountExceeded"), kNoQuotaInRegion},
      {Said("RequestLimitExceeded"), StatusCode::kUnavailable},
      {"\nCould not connect to the endpoint URL: \"https://ec2\"\n", StatusCode::kUnavailable},
      {Said("UnauthorizedOperation"), StatusCode::kPermissionDenied},
      {"\nUnable to locate credentials. You can configure …\n", StatusCode::kUnauthenticated},
      {Said("ExpiredToken"), StatusCode::kUnauthenticated},
      {Said("InvalidAMIID.NotFound"), StatusCode::kFailedPrecondition},
      {Said("SomethingNew"), StatusCode::kFailedPrecondition},
      {"", StatusCode::kFailedPrecondition},
  };
  for (const auto& [complaint, code] : cases) {
    const absl::Status status = ExplainAws(complaint);
    EXPECT_EQ(status.code(), code) << complaint;
    EXPECT_FALSE(status.message().empty());
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos) << "more than one line";
  }
  EXPECT_THAT(std::string(ExplainAws("\nUnable to locate credentials.\n").message()),
              HasSubstr("aws configure"));
  EXPECT_THAT(std::string(ExplainAws(Said("InvalidAMIID.NotFound")).message()),
              HasSubstr("cluster.aws.image"));
}

// ---- machine types -----------------------------------------------------------------------------

std::string Ec2For(const MachineNeed& need) {
  const Catalog catalog = Catalog::BuiltIn();
  const auto type = Ec2TypeFor(need, catalog);
  return type.ok() ? type->type : std::string(type.status().message());
}

TEST(AwsMachines, EveryTypeOfTheCatalogueHasOne) {
  const Catalog catalog = Catalog::BuiltIn();
  for (const MachineType& asked : catalog.machine_types()) {
    if (asked.is_tpu()) continue;
    const auto type = Ec2TypeFor({.type = asked.name,
                                  .vcpus = asked.vcpus,
                                  .memory_gb = asked.memory_gb,
                                  .accelerator = asked.accelerator,
                                  .accelerators = asked.accelerator_count},
                                 catalog);
    ASSERT_TRUE(type.ok()) << asked.name << ": " << type.status();
    EXPECT_EQ(catalog.FindMachineType(type->type)->category, MachineType::Category::kEc2);
    EXPECT_GE(type->vcpus, asked.vcpus) << asked.name;
    EXPECT_GE(type->memory_gb, asked.memory_gb) << asked.name;
    EXPECT_GE(type->accelerators, asked.accelerator_count) << asked.name;
    EXPECT_TRUE(type->price.has_value());
    EXPECT_EQ(type->type == asked.name, asked.category == MachineType::Category::kEc2);
  }
}

TEST(AwsMachines, TheCheapestThatIsLargeEnough) {
  EXPECT_EQ(Ec2For({.type = "standard", .vcpus = 4, .memory_gb = 15}), "m6i.xlarge");
  EXPECT_EQ(Ec2For({.type = "complex_model_s", .vcpus = 8, .memory_gb = 7.2}), "c6i.2xlarge");
  EXPECT_EQ(Ec2For({.type = "large_model", .vcpus = 8, .memory_gb = 52}), "r6i.2xlarge");
}

TEST(AwsMachines, GpusThatAreGoneHaveStandIns) {
  const MachineNeed k80{"x", 8, 30, "NVIDIA_TESLA_K80", 1},
      v100{"x", 16, 60, "NVIDIA_TESLA_V100", 4}, two{"x", 4, 15, "NVIDIA_TESLA_T4", 2};
  EXPECT_EQ(Ec2For(k80), "g4dn.2xlarge");
  EXPECT_EQ(Ec2For(v100), "g5.12xlarge");
  EXPECT_EQ(Ec2For(two), "g4dn.12xlarge") << "at least as many";
  EXPECT_THAT(Ec2For({"x", 4, 15, "NVIDIA_TESLA_T4", 16}), HasSubstr("no EC2 type"));
}

TEST(AwsMachines, QuotasAreOfFamilies) {
  EXPECT_STREQ(Ec2QuotaOf("c6i.large", false).code, "L-1216C47A");
  EXPECT_STREQ(Ec2QuotaOf("g5.xlarge", false).code, "L-DB2E81BA");
  EXPECT_STREQ(Ec2QuotaOf("g5.xlarge", true).code, "L-3819A6DF");
  EXPECT_STREQ(Ec2QuotaOf("p5.48xlarge", false).code, "L-417A185B");
}

TEST(AwsWords, WhatItTellsOfImagesIsReadOrRefused) {
  const auto images = ParseEc2Images(
      "ami-1\tkept\tavailable\t2026-11-22T06:30:00.000Z\tkept\tme@here\t100\tsnap-1,snap-2\n"
      "ami-2\tforeign\tpending\t2026-11-22\tNone\tNone\t0\t\n"
      "snap-3\tgone\tcompleted\t2026-11-22\tgone\tNone\t8\tsnap-3\n",
      "us-east-1");
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_THAT(*images, SizeIs(3));
  EXPECT_EQ((*images)[0].id, "ami-1");
  EXPECT_EQ((*images)[0].gb, 100);
  EXPECT_EQ((*images)[0].owner, "me@here");
  EXPECT_THAT((*images)[0].disks, ElementsAre("snap-1", "snap-2"));
  EXPECT_TRUE((*images)[0].ours);
  EXPECT_FALSE((*images)[1].ours);
  EXPECT_THAT((*images)[1].disks, SizeIs(0));
  EXPECT_EQ((*images)[2].id, "") << "its image is gone";
  EXPECT_EQ((*images)[2].name, "gone");
  for (const char* text : {"ami-1\n", "i-1\tkept\tavailable\tx\tkept\tme\t1\tsnap-1\n",
                           "ami-1\tkept\tavailable\tx\tkept\tme\tNone\tsnap-1\n",
                           "ami-1\tkept\tavailable\tx\tkept\tme\t1e30\tsnap-1\n"}) {
    EXPECT_FALSE(ParseEc2Images(text, "us-east-1").ok()) << text;
  }
}

}  // namespace
}  // namespace muster::cluster
