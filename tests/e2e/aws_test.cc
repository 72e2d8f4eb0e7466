// Jobs on machines of an EC2: moto's, with a machine behind each instance (tests/e2e/fake_aws.py),
// through the real `aws`.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/e2e/aws_fixture.h"

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

TEST_F(AwsTest, AJobLearnsTheSameAsOnOneMachine) {
  EXPECT_THAT(
      LearnsTheSameAsHere(),
      AllOf(HasSubstr("standard as m6i.xlarge"),
            HasSubstr("quota Running On-Demand Standard instances: 640 vCPUs, 16 needed"),
            HasSubstr("starting 4 machines at $0.77 an hour"), HasSubstr("4 machines given back")));
}

TEST_F(AwsTest, OfTwoLaunchesOfOneJobAtOnceOneRunsAndTheOtherIsToldSo) {
  const std::vector<std::string> words = Words("twice", Job()), others = Words("twice", Job());
  Running one(words, false, environment_), other(others, false, environment_);
  const Ended first = one.Wait(), second = other.Wait();
  EXPECT_EQ(first.code + second.code, 2) << first.out << first.err << second.out << second.err;
  EXPECT_EQ(std::min(first.code, second.code), 0);
  EXPECT_THAT(
      first.err + second.err,
      ::testing::ContainsRegex("^error: another launch runs twice, or is about to[^\n]+\n$"));
}

TEST_F(AwsTest, AJobDirectoryThatCannotBeUsedIsToldBeforeAnythingIsRented) {
  TinyJob here;
  here.steps = 100'000;
  const std::string folder = NewFolder("held");
  const std::vector<std::string> held = LaunchWords(folder, here);
  Running local(held, false, environment_);
  ASSERT_TRUE(local.WaitFor("/100,000")) << local.out();
  std::vector<std::string> words = Words("held", Job());
  words[4] = held[4];
  const Ended refused = Launch(words);
  EXPECT_EQ(refused.code, 2) << refused.out;
  EXPECT_THAT(refused.err, ::testing::ContainsRegex("^error: [^\n]*process [0-9]+[^\n]*\n$"));
  ExpectForHumans(refused);
  WriteText(folder + "/file", "");
  words[4] = folder + "/file";
  const Ended file = Launch(words);
  EXPECT_EQ(file.code, 2);
  EXPECT_THAT(file.err, HasSubstr("it is a file; move it away or choose another --job-dir"));
  EXPECT_THAT(Cloud().Asked(), Not(Contains("RunInstances")));
}

TEST_F(AwsTest, WhatIsRefusedInOnePlaceIsAskedForInTheNext) {
  TinyJob job = Job();
  job.workers = 1;
  Running run(Words("next_place", job), false, environment_);
  ASSERT_TRUE(run.WaitFor("starting 2 machines")) << run.out();
  // The master is there already when the worker is refused.
  Cloud().SetFaults(
      R"([{"action": "RunInstances", "skip": 1, "code": "InsufficientInstanceCapacity", "status": 500}])");
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("us-east-1a: An error occurred (InsufficientInstance"),
                               HasSubstr("2 machines run in us-east-1b")));
}

TEST_F(AwsTest, AnAnswerThatIsLostMakesNoMachineTwice) {
  Running run(Words("lost_answer", Job()), false, environment_);
  ASSERT_TRUE(run.WaitFor("starting 1 machine")) << run.out();
  Cloud().SetFaults(R"([{"action": "RunInstances", "times": 1, "lose": true}])");
  ASSERT_TRUE(run.WaitFor("1 machine run in")) << run.out();
  EXPECT_THAT(Cloud().Machines(), SizeIs(1));
  EXPECT_EQ(run.Wait().code, 0);
  int asked = 0;
  for (const std::string& action : Cloud().Asked()) asked += action == "RunInstances" ? 1 : 0;
  EXPECT_GE(asked, 3) << "a question beforehand, and two calls";
}

// Its job has ended; whether it comes back the user need not wait for.
TEST_F(AwsTest, AServersMachineThatDiesAndRunsAsAwsSaysIsTriedAgain) {
  TinyJob job = Job();
  job.workers = job.servers = 1;
  job.steps = 100'000;
  Running run(Words("lost_machine", job), false, environment_);
  ASSERT_TRUE(run.WaitFor("/100,000")) << run.out();
  Cloud().Kill(Cloud().Machines().back());
  ASSERT_TRUE(run.WaitFor("ps-0: its machine runs (i-")) << run.out();
  ASSERT_TRUE(run.WaitFor("waiting for them to be reached")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("ps 0 ("), HasSubstr("i-")));
}

TEST_F(AwsTest, GarbageIsCollectedAndTheLivingLeftAlone) {
  TinyJob job = Job();
  job.steps = 100'000;
  Running dead(Words("dead", job), false, environment_);
  Running living(Words("living", job), false, environment_);
  ASSERT_TRUE(dead.WaitFor("/100,000")) << dead.out();
  ASSERT_TRUE(living.WaitFor("/100,000")) << living.out();
  dead.Signal(SIGKILL);
  dead.Wait();
  EXPECT_THAT(Launch({"launch", "gc", "--dry-run"}).out,
              AllOf(HasSubstr("dead: master i-"), HasSubstr("would go"),
                    HasSubstr("living: the launcher of job living lives")));
  EXPECT_THAT(Cloud().Machines(), SizeIs(2));
  const Ended collected = Launch({"launch", "gc"});
  EXPECT_EQ(collected.code, 0) << collected.out;
  EXPECT_THAT(collected.out, HasSubstr("dead: nothing is left"));
  EXPECT_THAT(Cloud().Machines(), SizeIs(1));
  // Without journals: what carries this user's name and belongs to no launch here.
  fs::rename(home_ + "/.muster/machines", home_ + "/lost");
  living.Signal(SIGKILL);
  living.Wait();
  const std::string file = NewFolder("gc") + "/job.yaml";
  WriteText(file, fmt::format("cluster: {{{}}}\n", AwsCloud::Cluster()));
  EXPECT_THAT(Launch({"launch", "gc", "--config", file}).out,
              HasSubstr("living: 1 machines given back"));
}

TEST_F(AwsTest, AJobThatIsLeftAndFollowedAgainLearnsTheSameAndIsGivenBack) {
  TinyJob job = Job();
  job.workers = 1;
  job.steps = 3'000;
  job.evaluate_every = job.save_every = 1'000;
  TinyJob local = job;
  local.cluster = "";
  const std::string here = NewFolder("here");
  ASSERT_EQ(RunToEnd(LaunchWords(here, local)).code, 0);
  std::vector<std::string> words = Words("left", job);
  const std::string dir = words[4];
  words.emplace_back("--async");
  const Ended left = Launch(words);
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  ExpectForHumans(left);
  EXPECT_THAT(left.out, AllOf(HasSubstr("the job goes on, $0.38/h, ends by 20"),
                              HasSubstr("kept on its master's machine until 20"),
                              HasSubstr("launch attach left"), Not(HasSubstr("given back"))));
  // Its machines are nobody's to take.
  const Ended collected = Launch({"launch", "gc"});
  EXPECT_EQ(collected.code, 0) << collected.out;
  EXPECT_THAT(collected.out, HasSubstr("left: it was left to go on until 20"));
  words.pop_back();
  const Ended again = Launch(words);
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("launch attach left"));
  EXPECT_THAT(Launch({"launch", "jobs", "list"}).out, HasSubstr("left: its machines cost until"));
  EXPECT_THAT(Cloud().Machines(), SizeIs(2));

  const Ended followed = Launch({"launch", "attach", dir});
  ASSERT_EQ(followed.code, 0) << followed.out << followed.err;
  EXPECT_EQ(followed.err, "");
  ExpectForHumans(followed);
  if (followed.out.starts_with("SUCCEEDED")) {
    // It had ended before it was followed, when the worker's machine ends itself.
    EXPECT_THAT(followed.out, ContainsRegex("[12] machines? given back; about [$]0[.]0"));
  } else {
    EXPECT_THAT(followed.out, HasSubstr("2 machines given back; about $0.0"));
  }
  EXPECT_EQ(StateOf(dir).state, RunState::kSucceeded);
  EXPECT_TRUE(Contents(dir + "/export/model.onnx") == Contents(here + "/job/export/model.onnx"));
  EXPECT_THAT(Contents(dir + "/logs/worker-0.log"), HasSubstr(" I device /cpu:0"));
  const Ended cost = Launch({"launch", "cost", dir});
  EXPECT_THAT(cost.out, AllOf(HasSubstr("worker"), Not(HasSubstr("not given back"))));
  const Ended late = Launch({"launch", "attach", dir});
  EXPECT_EQ(late.code, 2);
  EXPECT_THAT(late.err, HasSubstr("no machines of left are known here"));
}

TEST_F(AwsTest, WhatAJobHasLearnedAloneWaitsOnItsMastersMachine) {
  TinyJob job = Job();
  job.workers = 1;
  job.steps = 2'000;
  job.evaluate_every = job.save_every = 1'000;
  std::vector<std::string> words = Words("ended", job);
  const std::string dir = words[4];
  words.emplace_back("--async");
  ASSERT_EQ(Launch(words).code, 0);
  ASSERT_THAT(Cloud().Machines(), SizeIs(2));
  const std::string master = Cloud().Machines().front();
  Cloud().SetSleepSpeed(100);
  for (int i = 0; i < 600 && Cloud().Machines().size() > 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  const int slept = Cloud().Slept();
  for (int i = 0; i < 600 && Cloud().Slept() < slept + 1'800; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ASSERT_THAT(Cloud().Machines(), ::testing::ElementsAre(master)) << "long after the job's end";
  EXPECT_FALSE(fs::exists(dir + "/export/model.onnx"));
  const Ended fetched = Launch({"launch", "attach", dir});
  EXPECT_EQ(fetched.code, 0) << fetched.out << fetched.err;
  ExpectForHumans(fetched);
  EXPECT_THAT(fetched.out, AllOf(HasSubstr("SUCCEEDED at step 2000 of 2000"),
                                 HasSubstr("given back; about $0.0")));
  EXPECT_EQ(StateOf(dir).state, RunState::kSucceeded);
  EXPECT_TRUE(fs::exists(dir + "/export/model.onnx"));
  EXPECT_TRUE(fs::exists(dir + "/checkpoints/step-2000/manifest.json"));
}

TEST_F(AwsTest, AJobThatWasLeftIsEndedFromAfarWithACheckpoint) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  std::vector<std::string> words = Words("cancelled", job);
  const std::string dir = words[4];
  words.emplace_back("--async");
  ASSERT_EQ(Launch(words).code, 0);
  // A launcher that is killed while it follows ends nothing.
  {
    Running follower({"launch", "attach", dir}, false, environment_);
    ASSERT_TRUE(follower.WaitFor("RUNNING")) << follower.out();
    follower.Signal(SIGKILL);
    follower.Wait();
  }
  const Ended ended = Launch({"launch", "jobs", "cancel", dir});
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("1 machine given back"));
  const master::JobState state = StateOf(dir);
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_TRUE(fs::exists(dir + "/" + state.last_checkpoint->path + "/manifest.json"));
}

TEST_F(AwsTest, AMachineWithGpusAndAnOldDriverEndsTheJobBeforeItStarts) {
  TinyJob job = Job();
  job.workers = 1;
  const auto with_gpus = [&](const std::string& name) {
    std::vector<std::string> words = Words(name, job);
    words.insert(words.end(), {"--set", "trainingInput.masterType=m6i.xlarge", "--set",
                               "trainingInput.workerType=g4dn.xlarge"});
    return words;
  };
  Cloud().SetDriver("535.183.01");
  const Ended old = Launch(with_gpus("old_driver"));
  if (old.err.find("without a CUDA toolkit") != std::string::npos) {
    GTEST_SKIP() << "this build has nothing for GPUs, so their machines are refused";
  }
  EXPECT_EQ(old.code, 2) << old.out;
  ExpectForHumans(old);
  EXPECT_THAT(old.err,
              AllOf(HasSubstr("host worker 0 (i-"), HasSubstr("has NVIDIA's driver 535"),
                    HasSubstr("580 or a later one"), HasSubstr("cluster.installDriver: true")));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
  Cloud().SetDriver("580.95.05");
  const Ended good = Launch(with_gpus("good_driver"));
  EXPECT_EQ(good.code, 0) << good.out << good.err;
}

TEST_F(AwsTest, ADryRunShowsEveryCommandAndNeedsNeitherAwsNorALogin) {
  std::vector<std::string> words = LaunchWords(NewFolder("dry"), Job());
  words.emplace_back("--dry-run");
  const Ended run = Running(words, false, {{"PATH", "/usr/bin:/bin"}, {"HOME", home_}}).Wait();
  EXPECT_EQ(run.code, 0) << run.err;
  size_t at = 0;
  for (const char* command : {"describe-instance-type-offerings", "get-service-quota",
                              "run-instances --count 1 --instance-type m6i.xlarge",
                              "describe-instances", "terminate-instances"}) {
    at = run.out.find(command, at);
    EXPECT_NE(at, std::string::npos) << command << " in\n" << run.out;
  }
  TinyJob held = Job();
  held.cluster = AwsCloud::Cluster("schedulerRole: 'arn:aws:iam::123456789012:role/ends'");
  words = LaunchWords(NewFolder("dry_held"), held);
  words.emplace_back("--dry-run");
  const Ended deadline = Running(words, false, {{"PATH", "/usr/bin:/bin"}, {"HOME", home_}}).Wait();
  EXPECT_THAT(deadline.out, AllOf(HasSubstr("scheduler create-schedule --name muster-"),
                                  HasSubstr("scheduler delete-schedule --name $SCHEDULES")));
  TinyJob job = Job();
  job.workers = 1;
  words = LaunchWords(NewFolder("dry_spot"), job);
  words.insert(words.end(), {"--dry-run", "--set", "trainingInput.scheduling.strategy=LOW_COST"});
  const Ended spot = Running(words, false, {{"PATH", "/usr/bin:/bin"}, {"HOME", home_}}).Wait();
  EXPECT_EQ(spot.code, 0) << spot.err;
  EXPECT_THAT(spot.out, AllOf(HasSubstr("m6i.xlarge: spot price not known (no prices of the last "
                                        "day are known): $0.1920 on demand at most"),
                              HasSubstr("describe-spot-price-history"),
                              HasSubstr("--instance-market-options 'MarketType=spot,")));
  EXPECT_THAT(Cloud().Asked(), IsEmpty());
}

TEST_F(AwsTest, ThePlanHasTheProvidersOwnPricesAndAsksForThemOnceADay) {
  std::vector<std::string> words = LaunchWords(NewFolder("prices"), Job());
  words.emplace_back("--check");
  // A plan does not wait for a slow answer, and this machine may be busy.
  Ended first = Launch(words);
  while (first.out.find("aws was not done after") != std::string::npos) {
    (void)Cloud().Asked();
    first = Launch(words);
  }
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out,
              AllOf(HasSubstr("prices        EC2 on demand, us-east-1, as the provider told on 20"),
                    HasSubstr("cheapest      us-east-2 of all that are known here, $0.0120 an hour "
                              "(6 %) less than us-east-1"),
                    HasSubstr("not known     whether ami-12c6146b has glibc 2.36")));
  EXPECT_THAT(Cloud().Asked(), ::testing::ElementsAre("GetProducts"));
  EXPECT_EQ(Launch(words).out, first.out);
  EXPECT_THAT(Cloud().Asked(), IsEmpty());
  fs::remove_all(home_ + "/.muster/prices");
  Cloud().SetFaults(R"([{"action": "GetProducts", "code": "AccessDeniedException"}])");
  const Ended denied = Launch(words);
  EXPECT_EQ(denied.code, 0) << denied.err;
  ExpectForHumans(denied);
  EXPECT_THAT(denied.out, HasSubstr("EC2 on demand, us-east-1, 2026-06, by this build's table ("));
}

TEST_F(AwsTest, WhatCannotStartIsToldInOneLineBeforeItCosts) {
  const auto refused = [&](const std::string& name, const TinyJob& job,
                           const std::map<std::string, std::string>& added = {},
                           const std::vector<std::string>& more = {"--yes"}) {
    std::vector<std::string> words = LaunchWords(NewFolder(name), job);
    words.insert(words.end(), more.begin(), more.end());
    std::map<std::string, std::string> environment = environment_;
    for (const auto& [key, value] : added) environment[key] = value;
    const Ended run = Running(words, false, environment).Wait();
    EXPECT_EQ(run.code, 2) << run.out << run.err;
    ExpectForHumans(run);
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
    return run.err;
  };
  const auto with = [&](const std::string& fields) {
    TinyJob job = Job();
    job.cluster =
        fmt::format("provider: AWS, aws: {{regions: [us-east-1], user: root, {}}}", fields);
    return job;
  };
  EXPECT_THAT(refused("no_aws", Job(), {{"PATH", "/usr/bin:/bin"}}),
              HasSubstr("no program aws in PATH"));
  EXPECT_THAT(refused("no_login", Job(), {{"AWS_ACCESS_KEY_ID", ""}}),
              HasSubstr("log in: aws configure"));
  EXPECT_THAT(refused("image", with("image: ami-0")),
              AllOf(HasSubstr("ami-0"), HasSubstr("cluster.aws.image")));
  EXPECT_THAT(refused("profile", with("image: ami-12c6146b, profile: nobody")),
              HasSubstr("cluster.aws.profile"));
  EXPECT_THAT(
      refused("too_old", with("image: 'resolve:ssm:/aws/service/debian/release/11/x'")),
      AllOf(HasSubstr("job.yaml:"), HasSubstr("cluster.aws.image: Debian 11 has glibc 2.31")));
  if (isatty(STDIN_FILENO) == 0) {
    EXPECT_THAT(refused("unasked", Job(), {}, {}), HasSubstr("agree with --yes"));
  }
  Cloud().SetFaults(R"([{"action": "RunInstances", "times": 1, "code": "UnauthorizedOperation"}])");
  EXPECT_THAT(refused("permission", Job()), HasSubstr("ask whoever runs the account"));
  EXPECT_THAT(Cloud().Asked(), Not(Contains("TerminateInstances"))) << "nothing was made";
}

}  // namespace
}  // namespace muster::e2e
