// How machines of the tests' EC2 end, or do not: by themselves when nobody needs them, at a
// deadline, stopped for their user, or baked into an image.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "telemetry/time.h"
#include "tests/e2e/aws_fixture.h"

namespace muster::e2e {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

TEST_F(AwsTest, AMachineWithoutAKeeperEndsItself) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  Running run(Words("watched", job), false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  // Half an hour, of which ten minutes without a keeper would do.
  Cloud().SetSleepSpeed(300);
  for (int i = 0; i < 600 && Cloud().Slept() < 1'800; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(Cloud().Machines(), SizeIs(1)) << "its keeper is there";
  run.Signal(SIGKILL);
  run.Wait();
  AwaitNoMachines();
  EXPECT_THAT(Cloud().Asked(), Not(Contains("TerminateInstances")));
  EXPECT_THAT(Launch({"launch", "gc"}).out, HasSubstr("watched: nothing is left"));
}

TEST_F(AwsTest, MachinesTurnThemselvesOffWhenTheirTimeIsOver) {
  TinyJob job = Job();
  job.steps = 100'000;
  std::vector<std::string> words = Words("alone", job);
  words.insert(words.end(), {"--max-running-time", "3600s"});
  Cloud().SetSpeed(300);  // an hour and a half in 18 s
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("1 machine run in")) << run.out();
  run.Signal(SIGKILL);
  run.Wait();
  EXPECT_THAT(Cloud().Machines(), SizeIs(1));
  AwaitNoMachines();
  Cloud().SetSpeed(1);
  EXPECT_EQ(Launch({"launch", "gc"}).code, 0);
}

TEST_F(AwsTest, AMachineThatWasRestartedStillEndsItself) {
  for (const bool by_watchdog : {false, true}) {
    SCOPED_TRACE(by_watchdog ? "when nobody is there" : "when its time is over");
    TinyJob job = Job();
    job.steps = 1'000'000;
    std::vector<std::string> words =
        Words(by_watchdog ? "restarted_watched" : "restarted_timed", job);
    words.insert(words.end(), {"--max-running-time", "3600s"});
    Running run(words, false, environment_);
    ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
    run.Signal(SIGKILL);
    run.Wait();
    ASSERT_THAT(Cloud().Machines(), SizeIs(1));
    if (by_watchdog) {
      Cloud().SetSleepSpeed(300);  // twenty minutes in four seconds
    } else {
      Cloud().SetSpeed(300);  // an hour and a half in 18 s
    }
    Cloud().Restart(Cloud().Machines().front());
    AwaitNoMachines();
    Cloud().SetSpeed(1);
    Cloud().SetSleepSpeed(1);
    EXPECT_THAT(Cloud().Asked(), Not(Contains("TerminateInstances")));
    EXPECT_EQ(Launch({"launch", "gc"}).code, 0);
  }
}

TEST_F(AwsTest, ADeadlineThatAwsHoldsIsSetForEachMachineAndGoesWithTheJob) {
  const std::string role = "arn:aws:iam::123456789012:role/ends-machines";
  TinyJob job = Job();
  job.workers = 1;
  job.steps = 1'000'000;
  job.cluster = AwsCloud::Cluster("schedulerRole: '" + role + "'");
  std::vector<std::string> words = Words("scheduled", job);
  words.insert(words.end(), {"--max-running-time", "3600s"});
  const int64_t began_ms = UnixMillis();
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const int64_t now_ms = UnixMillis();
  const std::vector<std::string> entries = Cloud().Schedules();
  ASSERT_THAT(entries, SizeIs(2));
  for (const std::string& id : Cloud().Machines()) {
    const auto entry = std::ranges::find_if(
        entries, [&](const std::string& line) { return line.find(id + " at(") != line.npos; });
    ASSERT_NE(entry, entries.end()) << id;
    EXPECT_THAT(*entry,
                AllOf(HasSubstr("muster-scheduled-"), HasSubstr(") DELETE {"),
                      HasSubstr("\"arn:aws:scheduler:::aws-sdk:ec2:terminateInstances\""),
                      HasSubstr(role), HasSubstr(R"({\"InstanceIds\":[\")" + id + R"(\"]})")));
    // An hour and a half after it was asked for.
    const auto at_ms = ParseTime(entry->substr(entry->find(" at(") + 4, 19) + "Z");
    ASSERT_TRUE(at_ms.ok()) << *entry;
    EXPECT_GE(*at_ms, began_ms + 5'400'000 - 1'000);
    EXPECT_LE(*at_ms, now_ms + 5'400'000);
  }
  run.Signal(SIGKILL);
  run.Wait();
  EXPECT_THAT(Cloud().Schedules(), SizeIs(2)) << "they outlive the launcher";
  EXPECT_EQ(Launch({"launch", "gc"}).code, 0);
  EXPECT_THAT(Cloud().Schedules(), IsEmpty());

  // Whoever may not set it is told so, and nothing is left.
  Cloud().SetFaults(
      R"([{"action": "CreateSchedule", "code": "AccessDeniedException", "status": 403}])");
  const Ended refused = Launch(words);
  EXPECT_EQ(refused.code, 2) << refused.out;
  ExpectForHumans(refused);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("AccessDenied"), HasSubstr("cluster.aws.schedulerRole"),
                                 HasSubstr("iam:PassRole")));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
  Cloud().SetFaults(
      R"([{"action": "ListSchedules", "code": "AccessDeniedException", "status": 403}])");
  (void)Cloud().Asked();
  EXPECT_EQ(Launch(words).code, 2);
  EXPECT_THAT(Cloud().Asked(), Not(Contains("TerminateInstances"))) << "nothing was made";
}

TEST_F(AwsTest, ImagesAreListedAndDeletedWithWhatLiesBehindThem) {
  const std::string file = NewFolder("images") + "/job.yaml";
  WriteText(file, fmt::format("cluster: {{{}}}\n", AwsCloud::Cluster()));
  const auto image = [&](std::vector<std::string> verb) {
    verb.insert(verb.begin(), {"launch", "image"});
    verb.insert(verb.end(), {"--config", file});
    return Launch(verb);
  };
  const auto ec2 = [&](std::vector<std::string> verb) {
    verb.insert(verb.begin(),
                {"/usr/bin/env", "aws", "--region", "us-east-1", "--output", "text", "ec2"});
    const Ended ended = Launch(verb);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return ended.out.substr(0, ended.out.find('\n'));
  };
  // As bake makes it, of a machine that has stopped.
  const std::string machine = ec2({"run-instances", "--image-id", "ami-12c6146b", "--user-data",
                                   "true", "--query", "Instances[0].InstanceId"});
  const std::string tags =
      "Tags=[{Key=muster-image,Value=shelved},{Key=muster-owner,Value=me@here}]";
  const auto make = [&](const std::string& name, bool ours) {
    std::vector<std::string> words = {"create-image", "--instance-id", machine,  "--name",
                                      name,           "--query",       "ImageId"};
    if (ours) {
      words.insert(words.end(), {"--tag-specifications", "ResourceType=image," + tags,
                                 "ResourceType=snapshot," + tags});
    }
    return ec2(words);
  };
  const std::string ours = make("shelved", true), other = make("foreign", false);
  ec2({"terminate-instances", "--instance-ids", machine});
  const auto snapshots = [&] {
    return ec2({"describe-snapshots", "--filters", "Name=tag:muster-image,Values=shelved",
                "--query", "length(Snapshots)"});
  };
  ASSERT_EQ(snapshots(), "1");

  const Ended list = image({"list"});
  EXPECT_EQ(list.code, 0) << list.err;
  EXPECT_THAT(list.out, AllOf(::testing::ContainsRegex("shelved +" + ours + " +us-east-1 +15 "),
                              HasSubstr("me@here"), Not(HasSubstr(other)),
                              HasSubstr("launch image delete NAME")));
  // The name is taken, which is told before anything is rented for another one.
  (void)Cloud().Asked();
  std::vector<std::string> bake = LaunchWords(NewFolder("bake"), Job());
  bake.insert(bake.begin() + 1, {"image", "bake", "--name", "shelved", "--yes"});
  const Ended taken = Launch(bake);
  EXPECT_EQ(taken.code, 2);
  EXPECT_THAT(taken.out, Not(HasSubstr("starting 1 machine")));
  EXPECT_THAT(taken.err, HasSubstr("there is an image shelved already in us-east-1: write another "
                                   "--name, or launch image delete shelved"));
  bake[4] = "foreign";
  EXPECT_THAT(Launch(bake).err, HasSubstr("foreign already in us-east-1: write another --name\n"));
  // Not without being asked, and only what is ours.
  const Ended asks = image({"delete", "shelved"});
  EXPECT_EQ(asks.code, 2);
  EXPECT_EQ(asks.err, fmt::format("error: this would delete image shelved {} (us-east-1) of "
                                  "me@here: agree with --yes where nobody can be asked\n",
                                  ours));
  for (const std::string& name : {std::string("foreign"), other}) {
    const Ended foreign = image({"delete", name, "--yes"});
    EXPECT_EQ(foreign.code, 2);
    EXPECT_THAT(foreign.err, AllOf(HasSubstr("was not made by launch image bake"),
                                   HasSubstr("deregister-image"), HasSubstr(other)));
  }
  EXPECT_THAT(image({"delete", "shelved", "--dry-run"}).out, HasSubstr("would be deleted"));
  EXPECT_THAT(Cloud().Asked(), Not(Contains("DeregisterImage")));

  // A kill between image and snapshot leaves what costs to the next call.
  Cloud().SetFaults(
      R"([{"action": "DeleteSnapshot", "code": "UnauthorizedOperation", "status": 403}])");
  const Ended half = image({"delete", "shelved", "--yes"});
  EXPECT_EQ(half.code, 1);
  ExpectForHumans(half);
  EXPECT_THAT(image({"list"}).out, ::testing::ContainsRegex("shelved +its disk alone +us-east-1"));
  const Ended gone = image({"delete", "shelved", "--yes"});
  EXPECT_EQ(gone.code, 0) << gone.err;
  EXPECT_EQ(snapshots(), "0");
  const Ended none = image({"delete", "shelved", "--yes"});
  EXPECT_EQ(none.code, 2);
  EXPECT_EQ(none.err,
            "error: there is no image shelved in us-east-1: launch image list shows "
            "those that launch image bake has made\n");
  EXPECT_THAT(image({"list"}).out, Not(HasSubstr("shelved")));
  Cloud().SetFaults(
      R"([{"action": "DescribeImages", "times": 9, "code": "ExpiredToken", "status": 400}])");
  EXPECT_EQ(image({"list"}).code, 1);
  AwaitNoMachines();
}

TEST_F(AwsTest, MachinesAreStoppedWhereTheJobFileSaysSoAndCostUntilTheyAreNamed) {
  TinyJob job = Job();
  job.workers = 1;
  job.cluster =
      AwsCloud::Cluster("diskGb: 100, schedulerRole: 'arn:aws:iam::123456789012:role/ends'") +
      ", afterJob: STOP";
  const std::vector<std::string> words = Words("stopped", job);
  const Ended run = Launch(words);
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  ExpectForHumans(run);
  const std::string price =
      "2 disks of 100 GB, about $16.00 a month (gp3 at $0.08 per GB, us-east-1)";
  EXPECT_THAT(run.out, AllOf(HasSubstr("machines stop, and cost: " + price),
                             HasSubstr("stopped: its machines are stopped since 20"),
                             HasSubstr("launch gc --stopped stopped deletes them; about $0.0"),
                             Not(HasSubstr("given back"))));
  EXPECT_THAT(Cloud().Machines(), SizeIs(2)) << "with their disks";
  EXPECT_THAT(Cloud().Schedules(), IsEmpty()) << "nothing terminates them later";
  EXPECT_THAT(Launch({"launch", "jobs", "list"}).out,
              AllOf(HasSubstr(price), HasSubstr("launch gc --stopped stopped")));
  // Nobody deletes them by accident.
  const Ended again = Launch(words);
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("stopped has ended: its machines are stopped since"));
  EXPECT_EQ(Launch({"launch", "attach", words[4]}).code, 2);
  EXPECT_EQ(Launch({"launch", "gc", "--stopped", "another"}).code, 2);
  const Ended kept = Launch({"launch", "gc"});
  EXPECT_EQ(kept.code, 0) << kept.out;
  EXPECT_THAT(kept.out, HasSubstr("launch gc --stopped stopped"));
  EXPECT_THAT(Cloud().Machines(), SizeIs(2));
  // Started by hand, a machine is its user's, and named as one that runs.
  const Ended ran = Launch({"/usr/bin/env", "aws", "--region", "us-east-1", "ec2",
                            "start-instances", "--instance-ids", Cloud().Machines().front()});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Ended runs = Launch({"launch", "gc"});
  EXPECT_EQ(runs.code, 1);
  EXPECT_THAT(runs.out, HasSubstr("stopped: 1 of them run: aws ec2 describe-instances"));
  const Ended deleted = Launch({"launch", "gc", "--stopped", "stopped"});
  EXPECT_EQ(deleted.code, 0) << deleted.out << deleted.err;
  EXPECT_THAT(deleted.out, HasSubstr("stopped: nothing is left"));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());

  // What does not stop is given back.
  TinyJob stubborn = Job();
  stubborn.cluster = AwsCloud::Cluster() + ", afterJob: STOP";
  Cloud().SetFaults(R"([{"action": "StopInstances", "code": "UnauthorizedOperation"}])");
  const Ended refused = Launch(Words("stubborn", stubborn));
  EXPECT_EQ(refused.code, 0) << refused.err;
  EXPECT_THAT(refused.out, AllOf(HasSubstr("the machines of job stubborn do not stop: "),
                                 HasSubstr("1 machine given back")));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
}

TEST_F(AwsTest, ABakedMachineIsAnImageThatLaterJobsUseAndNothingElseIsLeft) {
  const auto bake = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words = LaunchWords(NewFolder("bake"), Job());
    words.insert(words.begin() + 1, {"image", "bake", "--name", name});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const Ended shown = Launch(bake("shown", {"--dry-run"}));
  EXPECT_EQ(shown.code, 0) << shown.err;
  size_t at = 0;
  for (const char* command :
       {"run-instances --count 1 --instance-type m6i.xlarge", "stop-instances",
        "create-image --instance-id $ID --name shown", "terminate-instances"}) {
    at = shown.out.find(command, at);
    EXPECT_NE(at, std::string::npos) << command << " in\n" << shown.out;
  }
  const Ended unnamed = Launch(bake("No Name", {"--yes"}));
  EXPECT_EQ(unnamed.code, 2);
  EXPECT_THAT(unnamed.err, HasSubstr("'No Name' is no name of an image"));
  EXPECT_THAT(Cloud().Asked(), Not(Contains("RunInstances")));

  // One that is killed before it has the image leaves nothing.
  {
    Running killed(bake("killed", {"--yes"}), false, environment_);
    ASSERT_TRUE(killed.WaitFor("1 machine runs in us-east-1")) << killed.out();
    killed.Signal(SIGKILL);
    killed.Wait();
  }
  EXPECT_THAT(Cloud().Machines(), SizeIs(1));
  EXPECT_EQ(Launch({"launch", "gc"}).code, 0);
  EXPECT_THAT(Cloud().Machines(), IsEmpty());

  const size_t at_start = Cloud().AtStart().size();
  const Ended baked = Launch(bake("kept", {"--yes"}));
  ASSERT_EQ(baked.code, 0) << baked.out << baked.err;
  ExpectForHumans(baked);
  EXPECT_THAT(baked.out,
              AllOf(HasSubstr("starting 1 machine at $0.19 an hour, $0.38 at most"),
                    HasSubstr("1 machine given back"), HasSubstr("aws ec2 deregister-image")));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
  const size_t found = baked.out.find("aws: {regions: [us-east-1], image: ami-");
  ASSERT_NE(found, std::string::npos) << baked.out;
  const std::string image = baked.out.substr(baked.out.find("ami-", found), 21);
  TinyJob job = Job();
  job.cluster = fmt::format("provider: AWS, aws: {{regions: [us-east-1], image: {}, user: root}}",
                            image.substr(0, image.find('}')));
  const Ended used = Launch(Words("used", job));
  EXPECT_EQ(used.code, 0) << used.out << used.err;
  EXPECT_THAT(used.out, Not(HasSubstr("sending the programs")));
  EXPECT_THAT(Cloud().AtStart(), SizeIs(at_start + 1))
      << "the timers of its own machine would end each later one at its first start";
}

}  // namespace
}  // namespace muster::e2e
