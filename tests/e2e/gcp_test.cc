// Jobs on machines of a Compute Engine that is played (tests/e2e/fake_gcp.py), with a machine
// behind each instance, through the real `gcloud`, which takes seconds: few launches that show
// much.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>

#include "tests/e2e/cloud_fixture.h"
#include "tests/e2e/gcp_cloud.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

GcpCloud& Cloud() { return TheCloud<GcpCloud>(); }
[[maybe_unused]] const auto* const cloud_end =
    ::testing::AddGlobalTestEnvironment(new CloudEnd<GcpCloud>);

// Ids of jobs have capitals, which labels have not.
using GcpTest = CloudTest<GcpCloud>;

TEST_F(GcpTest, ABakedMachineIsAnImageThatLaterJobsUse) {
  std::vector<std::string> words = LaunchWords(NewFolder("bake"), Job());
  words.insert(words.begin() + 1, {"image", "bake", "--name=kept", "--yes"});
  const Ended baked = Launch(words);
  ASSERT_EQ(baked.code, 0) << baked.out << baked.err;
  ExpectForHumans(baked);
  EXPECT_THAT(baked.out,
              AllOf(HasSubstr("1 machine given back"),
                    HasSubstr("gcp: {image: kept, imageProject: muster-test}"),
                    HasSubstr("gcloud --project=muster-test compute images delete kept")));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
  TinyJob job = Job();
  job.cluster.insert(job.cluster.rfind('}'), ", image: kept, imageProject: muster-test");
  Running run(Words("used", job), /*unprivileged=*/false, environment_);
  ASSERT_TRUE(run.WaitFor("1 machine run in")) << run.out();
  EXPECT_THAT(Cloud().FirstInstance(), HasSubstr("images/kept"));
  const Ended used = run.Wait();
  EXPECT_EQ(used.code, 0) << used.out << used.err;

  // The name is taken, and the image can be listed and deleted.
  const Ended again = Launch(words);
  EXPECT_EQ(again.code, 2) << again.out;
  EXPECT_THAT(again.err, HasSubstr("there is an image kept already: write another --name, or "
                                   "launch image delete kept"));
  EXPECT_THAT(again.out, Not(HasSubstr("starting 1 machine")));
  const std::string file = NewFolder("images") + "/job.yaml";
  WriteText(file, fmt::format("cluster: {{{}}}\n", GcpCloud::Cluster()));
  const auto image = [&](std::vector<std::string> verb) {
    verb.insert(verb.begin(), {"launch", "image"});
    verb.insert(verb.end(), {"--config", file});
    return Launch(verb);
  };
  EXPECT_THAT(image({"list"}).out, AllOf(HasSubstr("kept"), HasSubstr("10"), HasSubstr("READY")));
  const Ended asks = image({"delete", "kept"});
  EXPECT_EQ(asks.code, 2);
  EXPECT_THAT(asks.err, HasSubstr("this would delete image kept"));
  const Ended gone = image({"delete", "kept", "--yes"});
  EXPECT_EQ(gone.code, 0) << gone.err;
  ExpectForHumans(gone);
  EXPECT_THAT(image({"list"}).out, HasSubstr("no image that is still there\n"));
  const Ended twice = image({"delete", "kept", "--yes"});
  EXPECT_EQ(twice.code, 2);
  EXPECT_THAT(twice.err, HasSubstr("error: there is no image kept: launch image list"));
}

TEST_F(GcpTest, MachinesAreStoppedWhereTheJobFileSaysSoAndCostUntilTheyAreNamed) {
  TinyJob job = Job();
  job.workers = 1;
  job.cluster += ", afterJob: STOP";
  const Ended run = Launch(Words("stopped", job));
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  ExpectForHumans(run);
  EXPECT_THAT(run.out, AllOf(HasSubstr("stopped: its machines are stopped since 20"),
                             HasSubstr("pd-balanced at $0.10 per GB, us-central1"),
                             HasSubstr("launch gc --stopped stopped deletes them")));
  EXPECT_THAT(Cloud().Machines(), SizeIs(2)) << "with their disks";
  EXPECT_THAT(Cloud().Asked(), Contains("stop"));
  EXPECT_EQ(Launch({"launch", "gc"}).code, 0);
  EXPECT_THAT(Cloud().Machines(), SizeIs(2));
  const Ended deleted = Launch({"launch", "gc", "--stopped", "stopped"});
  EXPECT_EQ(deleted.code, 0) << deleted.out << deleted.err;
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
}

TEST_F(GcpTest, AJobLearnsTheSameAsOnOneMachine) {
  EXPECT_THAT(
      LearnsTheSameAsHere(),
      AllOf(HasSubstr("standard as n1-standard-4"),
            HasSubstr("us-central1: quota CPUS: 64 of 72 free, 16 needed"),
            HasSubstr("starting 4 machines at $0.76 an hour"),
            HasSubstr("4 machines run in us-central1-a"), HasSubstr("4 machines given back")));
}

// With notice, and then without a word.
TEST_F(GcpTest, SpotMachinesThatAreTakenBackAreReplaced) {
  TinyJob job = Job();
  job.workers = 1;
  job.steps = 1'000'000;
  std::vector<std::string> words = Words("Taken_back", job);
  words.insert(words.end(), {"--set", "trainingInput.scheduling.strategy=LOW_COST"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  EXPECT_THAT(run.out(),
              HasSubstr("n1-standard-4: spot price not known (the provider's command line does not "
                        "tell it): $0.1900 on demand at most"));
  ASSERT_THAT(Cloud().SpotMachines(), SizeIs(1));
  EXPECT_THAT(Cloud().SpotMachines().front(), HasSubstr("worker"));
  std::set<std::string> had;
  for (const std::optional<int> notice_s : {std::optional(20), std::optional<int>()}) {
    const std::string machine = Cloud().SpotMachines().back();
    had.insert(machine);
    Cloud().TakeBack(machine, notice_s);
    if (notice_s) {
      ASSERT_TRUE(run.WaitFor("worker-0: its machine is taken back at 20")) << run.out();
    } else {
      ASSERT_TRUE(run.WaitFor("worker-0: its machine is gone (" + machine)) << run.out();
    }
    ASSERT_TRUE(run.WaitFor("worker-0: another machine runs in us-central1-")) << run.out();
    ASSERT_TRUE(run.WaitFor("worker-0 is started again")) << run.out();
    ASSERT_TRUE(run.WaitFor("worker-0 has joined; replica 1 goes on in worker-0")) << run.out();
  }
  had.insert(Cloud().SpotMachines().back());
  EXPECT_THAT(had, SizeIs(3)) << "each is another one";
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, HasSubstr("2 machines given back"));
  const std::string dir = words[4];
  EXPECT_THAT(Launch({"launch", "cost", dir}).out, ContainsRegex("worker \\(spot\\) +3 "));
}

TEST_F(GcpTest, WhatIsRefusedIsAskedForInTheNextPlaceAndALostAnswerMakesNothingTwice) {
  TinyJob job = Job();
  job.workers = 1;
  Running run(Words("Next_Place", job), false, environment_);
  ASSERT_TRUE(run.WaitFor("starting 2 machines")) << run.out();
  // The master is there already when the worker is refused; the next worker's answer is lost.
  Cloud().SetFaults(
      R"([{"action": "bulkInsert", "skip": 1, "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
           "message": "The zone does not have enough resources available to fulfill the request."},
          {"action": "bulkInsert", "skip": 2, "lose": true}])");
  ASSERT_TRUE(run.WaitFor("2 machines run in us-central1-b")) << run.out();
  EXPECT_THAT(Cloud().Machines(), SizeIs(2));
  // No credentials; a deadline that Compute Engine holds.
  EXPECT_THAT(Cloud().FirstInstance(), AllOf(Not(HasSubstr("serviceAccounts")),
                                             HasSubstr(R"("instanceTerminationAction": "DELETE")"),
                                             HasSubstr(R"("muster-job": "next_place")"),
                                             HasSubstr(R"("value": "Next_Place")")));
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("us-central1-a: The zone does not have enough resources"));
}

TEST_F(GcpTest, MachinesThatNobodyIsLeftForAreFoundAndInTheEndDeletedByTheCloud) {
  TinyJob job = Job();
  job.steps = 100'000;
  std::vector<std::string> words = Words("Alone", job);
  words.insert(words.end(), {"--max-running-time", "3600s"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("1 machine run in")) << run.out();
  run.Signal(SIGKILL);
  run.Wait();
  // Without a journal it is found by what it carries: the user's name.
  const std::string file = NewFolder("gc") + "/job.yaml";
  WriteText(file, fmt::format("cluster: {{{}}}\n", GcpCloud::Cluster()));
  const fs::path machines = home_ + "/.muster/machines";
  fs::rename(machines, home_ + "/elsewhere");
  EXPECT_THAT(Launch({"launch", "gc", "--dry-run", "--config", file}).out,
              AllOf(HasSubstr("Alone"), HasSubstr("would go")));
  fs::remove_all(machines);
  fs::rename(home_ + "/elsewhere", machines);
  EXPECT_THAT(Cloud().Machines(), SizeIs(1));
  Cloud().SetSpeed(5'000);  // an hour and a half in a second
  AwaitNoMachines();
  EXPECT_EQ(Launch({"launch", "gc"}).code, 0);
}

TEST_F(GcpTest, AMachineWithoutAKeeperStopsAndItsDiskIsCollected) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  Running run(Words("Watched", job), false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  run.Signal(SIGKILL);
  run.Wait();
  Cloud().SetSleepSpeed(300);
  for (int i = 0; i < 600 && Cloud().StateOfMachine() == "RUNNING"; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(Cloud().StateOfMachine(), "TERMINATED") << "it runs no more, and its disk costs";
  EXPECT_THAT(Launch({"launch", "gc"}).out, HasSubstr("Watched: nothing is left"));
}

TEST_F(GcpTest, AJobThatIsLeftIsFollowedAgainAndGivenBack) {
  TinyJob job = Job();
  job.steps = 3'000;
  job.evaluate_every = job.save_every = 1'000;
  std::vector<std::string> words = Words("Left", job);
  const std::string dir = words[4];
  words.emplace_back("--async");
  const Ended left = Launch(words);
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  EXPECT_THAT(Cloud().Machines(), SizeIs(1));
  const Ended followed = Launch({"launch", "attach", dir});
  ASSERT_EQ(followed.code, 0) << followed.out << followed.err;
  EXPECT_THAT(followed.out, HasSubstr("1 machine given back; about $0.0"));
  EXPECT_EQ(StateOf(dir).state, RunState::kSucceeded);
  EXPECT_TRUE(fs::exists(dir + "/export/model.onnx"));
}

TEST_F(GcpTest, ADryRunShowsEveryCommandAndNeedsNeitherGcloudNorALogin) {
  std::vector<std::string> words = LaunchWords(NewFolder("dry"), Job());
  words.emplace_back("--dry-run");
  const Ended run = Running(words, false, {{"PATH", NewFolder("nothing")}, {"HOME", home_}}).Wait();
  EXPECT_EQ(run.code, 0) << run.err;
  size_t at = 0;
  for (const char* command :
       {"regions describe us-central1", "images describe-from-family debian-12",
        "machine-types list", "instances bulk create", "--machine-type=n1-standard-4",
        "instances list", "instances delete"}) {
    at = run.out.find(command, at);
    EXPECT_NE(at, std::string::npos) << command << " in\n" << run.out;
  }
  EXPECT_THAT(Cloud().Asked(), IsEmpty());
}

TEST_F(GcpTest, WhatCannotStartIsToldInOneLineBeforeItCosts) {
  const auto refused = [&](const std::string& name, const TinyJob& job,
                           const std::map<std::string, std::string>& added = {},
                           const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = LaunchWords(NewFolder(name), job);
    words.emplace_back("--yes");
    words.insert(words.end(), more.begin(), more.end());
    std::map<std::string, std::string> environment = environment_;
    for (const auto& [key, value] : added) environment[key] = value;
    const Ended run = Running(words, false, environment).Wait();
    EXPECT_EQ(run.code, 2) << run.out << run.err;
    ExpectForHumans(run);
    return run.err;
  };
  const auto with = [&](const std::string& fields) {
    TinyJob job = Job();
    job.cluster = fmt::format("provider: GCP, gcp: {{user: root, {}}}", fields);
    return job;
  };
  const std::string empty = NewFolder("no_programs");
  for (const char* program : {"ssh", "ssh-keygen"}) {
    fs::create_symlink(fmt::format("/usr/bin/{}", program), fmt::format("{}/{}", empty, program));
  }
  EXPECT_THAT(refused("no_gcloud", Job(), {{"PATH", empty}}),
              HasSubstr("no program gcloud in PATH"));
  EXPECT_THAT(refused("no_login", Job(), {{"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", ""}}),
              HasSubstr("log in: gcloud auth login"));
  EXPECT_THAT(refused("project", with("project: nobody, regions: [us-central1]")),
              HasSubstr("Failed to find project nobody: see cluster.gcp.project"));
  EXPECT_THAT(refused("region", with("project: muster-test, regions: [us-central9]")),
              HasSubstr("see cluster.gcp.regions"));
  EXPECT_THAT(
      refused("image", with("project: muster-test, regions: [us-central1], imageFamily: mine")),
      HasSubstr("see cluster.gcp.image"));
  EXPECT_THAT(
      refused("quota", with("project: muster-test, regions: [europe-west4]")),
      AllOf(HasSubstr("europe-west4: quota CPUS: 2 of 2 free, 4 needed"),
            HasSubstr("--quota-id=CPUS-per-project-region"), HasSubstr("--preferred-value=4")));
  TinyJob gpus = with("project: muster-test, regions: [us-central1]");
  gpus.training = "device: CPU";
  EXPECT_THAT(refused("gpu_quota", gpus, {},
                      {"--scale-tier=custom", "--master-machine-type=n1-standard-4",
                       "--master-accelerator=count=1,type=nvidia-tesla-t4"}),
              AllOf(HasSubstr("us-central1: quota NVIDIA_T4_GPUS: 1 of 1 free, 1 needed"),
                    HasSubstr("the project: quota GPUS_ALL_REGIONS: 0 of 1 free, 1 needed; ask"),
                    HasSubstr("--quota-id=GPUS-ALL-REGIONS-per-project --preferred-value=2")));
  Cloud().SetFaults(
      R"([{"action": "region", "status": 403, "code": "accessNotConfigured",
           "message": "Compute Engine API has not been used in project 1 before."}])");
  EXPECT_THAT(refused("api", Job()), HasSubstr("gcloud services enable compute.googleapis.com"));
  Cloud().SetFaults(
      R"([{"action": "bulkInsert", "status": 403, "code": "forbidden",
           "message": "Required 'compute.instances.create' permission for 'projects/p'"}])");
  EXPECT_THAT(refused("permission", Job()), HasSubstr("ask whoever runs the project"));
}

}  // namespace
}  // namespace muster::e2e
