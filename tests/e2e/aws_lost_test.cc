// Workers' machines that are lost, on the tests' EC2: the provider is asked, another one is asked
// for, and the others go on; also by a launcher that came later, and with nothing left of one that
// is killed meanwhile.
#include <fmt/format.h>

#include <csignal>
#include <cstdlib>
#include <random>

#include "tests/e2e/aws_fixture.h"

namespace muster::e2e {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// Machines are listed as they were made: the master's first, then the workers'.
class LostMachineTest : public AwsTest {
 protected:
  TinyJob LongJob() const {
    TinyJob job = Job();
    job.workers = 1;
    job.steps = 1'000'000;
    return job;
  }
  static void ExpectInOrder(const std::string& text, const std::vector<std::string>& parts) {
    size_t at = 0;
    for (const std::string& part : parts) {
      at = text.find(part, at);
      ASSERT_NE(at, std::string::npos) << part << " in\n" << text;
    }
  }
};

// It is on demand, and whoever talks to it hears nothing any more, no end either. What both know of
// one step is the same.
TEST_F(LostMachineTest, OneThatVanishesIsReplacedOnceTheProviderSaysSoAndTheSameIsLearnt) {
  TinyJob job = LongJob();
  job.servers = 1;
  job.evaluate_every = job.save_every = 100;
  TinyJob local = job;
  local.cluster = "";
  const std::string there = NewFolder("there");
  // Data that machines lack: the path is relative to where launch runs.
  job.data = "only/here";
  std::filesystem::create_directories(there + "/only");
  std::filesystem::create_directory_symlink(SpeechData(), there + "/only/here");
  std::vector<std::string> words = LaunchWords(there, job);
  words.front() = fmt::format("{}/launch", std::getenv("MUSTER_BIN"));
  words.insert(words.begin(), {"/usr/bin/env", "-C", there});
  words.emplace_back("--yes");
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const std::string lost = Cloud().Machines()[1];
  Cloud().SetLink(lost, false);
  Cloud().TakeBack(lost, std::nullopt);
  ASSERT_TRUE(run.WaitFor("worker-0 has joined")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  EXPECT_EQ(ended.err, "");
  ExpectForHumans(ended);
  ExpectInOrder(ended.out,
                {"worker-0 is away: host worker 0", "worker-0: its machine is gone (" + lost,
                 "worker-0: another machine runs in us-east-1", "sending only/here (",
                 "worker-0 is started again", "worker-0 has joined; replica 1 goes on in worker-0",
                 "3 machines given back"});
  EXPECT_THAT(ended.out, HasSubstr("replica 1 goes on in chief-0"));
  ExpectSameAsUndisturbed(there, local);
}

TEST_F(LostMachineTest, AnotherMachineWithAnOldDriverIsEndedAndTheJobGoesOnWithout) {
  TinyJob job = LongJob();
  std::vector<std::string> words = Words("old_driver", job);
  words.insert(words.end(), {"--set", "trainingInput.masterType=m6i.xlarge", "--set",
                             "trainingInput.workerType=g4dn.xlarge"});
  Cloud().SetDriver("580.95.05");
  Running run(words, false, environment_);
  if (!run.WaitFor("/1,000,000")) {
    const Ended ended = run.Wait();
    if (ended.err.find("without a CUDA toolkit") != std::string::npos) {
      GTEST_SKIP() << "this build has nothing for GPUs, so their machines are refused";
    }
    FAIL() << ended.out << ended.err;
  }
  Cloud().SetDriver("535.183.01");
  const std::string master = Cloud().Machines()[0], lost = Cloud().Machines()[1];
  Cloud().TakeBack(lost, std::nullopt);
  ASSERT_TRUE(run.WaitFor("worker-0: another machine runs in us-east-1")) << run.out();
  ASSERT_TRUE(run.WaitFor("and the job goes on without it")) << run.out();
  for (int i = 0; i < 300 && Cloud().Machines().size() > 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(Cloud().Machines(), ::testing::ElementsAre(master));
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, AllOf(HasSubstr("worker-0: host worker 0 (i-"),
                               HasSubstr("has NVIDIA's driver 535, and this build needs 580"),
                               Not(HasSubstr("worker-0 is started again"))));
}

TEST_F(LostMachineTest, OneThatTheProviderSaysRunsIsKeptAndUsedAgain) {
  Running run(Words("cut", LongJob()), false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  (void)Cloud().Asked();
  const std::vector<std::string> machines = Cloud().Machines();
  Cloud().SetLink(machines[1], false);
  ASSERT_TRUE(run.WaitFor("worker-0: its machine runs (" + machines[1])) << run.out();
  Cloud().SetLink(machines[1], true);
  ASSERT_TRUE(run.WaitFor("worker-0 is started again")) << run.out();
  ASSERT_TRUE(run.WaitFor("worker-0 has joined")) << run.out();
  EXPECT_EQ(Cloud().Machines(), machines);
  EXPECT_THAT(Cloud().Asked(), AllOf(Contains("DescribeInstances"), Not(Contains("RunInstances")),
                                     Not(Contains("TerminateInstances"))));
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
}

// What servers and the master have in memory is lost with their machines: the job ends, and goes on
// from its newest checkpoint, which is here.
TEST_F(LostMachineTest, WithoutAServersOrTheMastersMachineTheJobGoesOnFromItsCheckpoint) {
  TinyJob job = LongJob();
  job.servers = 1;
  job.evaluate_every = job.save_every = 100;
  TinyJob local = job;
  local.cluster = "";
  const std::string there = NewFolder("again");
  std::vector<std::string> words = LaunchWords(there, job);
  words.emplace_back("--yes");
  Running run(words, false, environment_);
  const master::JobDirectory dir(there + "/job");
  const auto saved = [&] {
    const auto checkpoint = master::NewestCheckpoint(dir, nullptr);
    return checkpoint.ok() ? checkpoint->step : 0;
  };
  const auto await_more = [&](int64_t than) {
    for (int i = 0; i < 600 && saved() <= than; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return saved();
  };
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  ASSERT_GT(await_more(0), 0);
  const std::string server = Cloud().Machines()[2];
  Cloud().TakeBack(server, std::nullopt);
  ASSERT_TRUE(run.WaitFor("ps-0: its machine is gone (" + server)) << run.out();
  ASSERT_TRUE(run.WaitFor("ps-0: another machine runs in us-east-1")) << run.out();
  ASSERT_TRUE(run.WaitFor("the job goes on from its checkpoint of step ")) << run.out();
  const int64_t first = saved();
  ASSERT_TRUE(run.WaitFor("resuming from the checkpoint of step ")) << run.out();
  ASSERT_GT(await_more(first), first);
  const std::string master = Cloud().Machines()[0];
  Cloud().SetLink(master, false);
  Cloud().TakeBack(master, std::nullopt);
  ASSERT_TRUE(run.WaitFor("master-0: another machine runs in us-east-1")) << run.out();
  ASSERT_TRUE(run.WaitFor("resuming from the checkpoint of step ")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, HasSubstr("3 machines given back"));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
  ExpectSameAsUndisturbed(there, local);
}

TEST_F(LostMachineTest, AJobThatIsRunAgainHasWhatIsLeftOfItsRunningTime) {
  TinyJob job = LongJob();
  job.servers = 1;
  std::vector<std::string> words = Words("rest", job);
  words.insert(words.end(), {"--set", "trainingInput.scheduling.maxRunningTime=90s"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const std::string server = Cloud().Machines()[2];
  Cloud().SetLink(server, false);
  ASSERT_TRUE(run.WaitFor("ps-0: its machine runs (" + server)) << run.out();
  Cloud().SetLink(server, true);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 1) << ended.out << ended.err;
  EXPECT_THAT(
      ended.out,
      AllOf(HasSubstr("the job "), ::testing::ContainsRegex("running time of .* is over"),
            Not(HasSubstr("running time of 90 s")), Not(HasSubstr("running time of 1 min 30 s"))));
  ExpectForHumans(ended);
}

// One is lost while nobody follows the job, another one while somebody does who was not there at
// the beginning.
TEST_F(LostMachineTest, ALauncherThatAttachesReplacesThemAsTheFirstDoes) {
  std::vector<std::string> words = Words("left", LongJob());
  const std::string dir = words[4];
  words.insert(words.end(), {"--async", "--set", "trainingInput.scheduling.strategy=LOW_COST"});
  const Ended left = Launch(words);
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  const std::string first = Cloud().Machines()[1];
  Cloud().TakeBack(first, std::nullopt);
  for (int i = 0; i < 600 && Cloud().Machines().size() > 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  (void)Cloud().Asked();
  Running follower({"launch", "attach", dir}, false, environment_);
  ASSERT_TRUE(follower.WaitFor("worker-0: its machine is gone (" + first)) << follower.out();
  ASSERT_TRUE(follower.WaitFor("worker-0 is started again")) << follower.out();
  ASSERT_TRUE(follower.WaitFor("worker-0 has joined")) << follower.out();
  EXPECT_THAT(Cloud().SpotMachines(), SizeIs(1));
  const std::string second = Cloud().SpotMachines()[0];
  Cloud().TakeBack(second, /*notice_s=*/5);
  ASSERT_TRUE(follower.WaitFor("worker-0: its machine is taken back")) << follower.out();
  ASSERT_TRUE(follower.WaitFor("worker-0 is started again")) << follower.out();
  ASSERT_TRUE(follower.WaitFor("worker-0 has joined")) << follower.out();
  EXPECT_THAT(Cloud().Asked(), Contains("DescribeSpotPriceHistory")) << "the bill follows them";
  follower.Signal(SIGINT);
  const Ended ended = follower.Wait();
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, HasSubstr("given back; about $0."));
  const master::JobState state = StateOf(dir);
  EXPECT_EQ(state.state, master::RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, state.step);
  // Three machines for one worker, one after the other.
  const Ended cost = Launch({"launch", "cost", dir});
  EXPECT_THAT(cost.out, ::testing::ContainsRegex("worker \\(spot\\) +3 "));
  EXPECT_THAT(cost.out, Not(HasSubstr("not given back")));
}

TEST_F(LostMachineTest, ALauncherThatAttachesRunsTheJobAgainAsTheFirstDoes) {
  TinyJob job = LongJob();
  job.servers = 1;
  job.evaluate_every = job.save_every = 100;
  TinyJob local = job;
  local.cluster = "";
  const std::string there = NewFolder("attached");
  std::vector<std::string> words = LaunchWords(there, job);
  words.insert(words.end(), {"--yes", "--async"});
  const Ended left = Launch(words);
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  Running run({"launch", "attach", there + "/job"}, false, environment_);
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  const std::string server = Cloud().Machines()[2];
  Cloud().SetLink(server, false);
  Cloud().TakeBack(server, std::nullopt);
  ASSERT_TRUE(run.WaitFor("ps-0: another machine runs in us-east-1")) << run.out();
  ASSERT_TRUE(run.WaitFor("the job goes on from its checkpoint of step ")) << run.out();
  ASSERT_TRUE(run.WaitFor("resuming from the checkpoint of step ")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, HasSubstr("3 machines given back"));
  EXPECT_THAT(Cloud().Machines(), IsEmpty());
  ExpectSameAsUndisturbed(there, local);
}

// MUSTER_ROUNDS more of them, where somebody asks for it.
TEST_F(LostMachineTest, NothingIsLeftOfLaunchersThatAreKilledWhileTheyReplaceOne) {
  const char* asked = std::getenv("MUSTER_ROUNDS");
  const uint64_t rounds = asked == nullptr ? 2 : std::strtoull(asked, nullptr, 10);
  const auto seed = static_cast<uint64_t>(getpid());
  std::printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  uint64_t asking = 0;
  for (uint64_t round = 0; round < rounds; ++round) {
    // The first is killed when the other machine has been asked for, the others at any moment.
    const auto after = std::chrono::milliseconds(round == 0 ? 0 : random() % 12'000);
    SCOPED_TRACE(testing::Message()
                 << "seed " << seed << " round " << round << " after " << after.count() << " ms");
    {
      Running run(Words(fmt::format("killed_{}", round), LongJob()), false, environment_);
      ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
      (void)Cloud().Asked();
      Cloud().TakeBack(Cloud().Machines()[1], std::nullopt);
      ASSERT_TRUE(run.WaitFor("worker-0 is away")) << run.out();
      bool ran = false;
      for (int i = 0; round == 0 && i < 600 && !ran; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        ran = ::testing::Value(Cloud().Asked(), Contains("RunInstances"));
      }
      std::this_thread::sleep_for(after);
      run.Signal(SIGKILL);
      run.Wait();
      asking += ran || ::testing::Value(Cloud().Asked(), Contains("RunInstances")) ? 1 : 0;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 2000));
    const Ended collected = Launch({"launch", "gc"});
    EXPECT_EQ(collected.code, 0) << collected.out << collected.err;
    EXPECT_THAT(Cloud().Machines(), IsEmpty()) << collected.out;
  }
  EXPECT_GT(asking, 0u) << "no launcher had asked for another machine";
}

}  // namespace
}  // namespace muster::e2e
