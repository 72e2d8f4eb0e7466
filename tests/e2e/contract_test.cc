// What every provider promises, whatever it is: the same job, on machines of each.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "tests/e2e/programs.h"
#include "tests/e2e/sites.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ContractTest : public ::testing::TestWithParam<SiteKind> {
 protected:
  void SetUp() override {
    if (!site_->problem().empty()) GTEST_SKIP() << site_->problem();
  }
  // With the master four machines. The data is a folder of where launch runs, and of no machine.
  TinyJob Job() const {
    TinyJob job;
    job.workers = 2;
    job.servers = 1;
    job.data = "only/here";
    job.cluster = site_->cluster();
    return job;
  }
  // In `folder`, which has the data.
  std::vector<std::string> Words(const std::string& folder, const TinyJob& job) const {
    fs::create_directories(folder + "/only");
    std::error_code there;
    fs::create_directory_symlink(SpeechData(), folder + "/only/here", there);
    std::vector<std::string> words = LaunchWords(folder, job);
    words.front() = fmt::format("{}/launch", std::getenv("MUSTER_BIN"));
    words.insert(words.begin(), {"/usr/bin/env", "-C", folder});
    words.emplace_back("--yes");
    return words;
  }
  Ended Run(const std::vector<std::string>& words) const {
    Ended ended = Running(words, /*unprivileged=*/false, environment_).Wait();
    ExpectForHumans(ended);
    return ended;
  }
  void ExpectAllGivenBack(int seconds = 20) const {
    for (int i = 0; i < 10 * seconds && !site_->Held().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(site_->Held(), IsEmpty());
    const fs::path journals = home_ + "/.muster/machines";
    EXPECT_TRUE(!fs::exists(journals) || fs::is_empty(journals));
  }
  void RemoveKeys() const {
    std::error_code none;
    for (const auto& file : fs::directory_iterator(home_ + "/.muster/machines", none)) {
      if (file.path().extension() != ".jsonl") fs::remove_all(file.path());
    }
  }
  // Of the same job on this machine alone.
  std::string FolderOfLocal(TinyJob job) const {
    job.cluster = "";
    std::string folder = NewFolder("local");
    EXPECT_EQ(Run(Words(folder, job)).code, 0);
    return folder;
  }
  static void ExpectSameModel(const std::string& there, const std::string& here, int step) {
    const std::string servers = fmt::format("/job/checkpoints/step-{}/ps-0.safetensors", step);
    for (const std::string& file : {std::string("/job/export/model.onnx"), servers}) {
      EXPECT_TRUE(Contents(there + file) == Contents(here + file)) << file;
    }
  }

  const std::unique_ptr<Site> site_ = GetParam().make();
  const std::string home_ = NewFolder("home");
  const std::map<std::string, std::string> environment_ =
      site_->problem().empty() ? site_->environment(home_) : std::map<std::string, std::string>();
};

TEST_P(ContractTest, AJobLearnsTheSameAsOnOneMachineAndBringsEverything) {
  const std::string folder = NewFolder("there");
  const Ended run = Run(Words(folder, Job()));
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(run.out.find("sending only/here (") == std::string::npos, site_->keeps_folder());
  ExpectAllGivenBack();
  const std::string job = folder + "/job";
  EXPECT_EQ(StateOf(job).state, RunState::kSucceeded);
  EXPECT_EQ(StateOf(job).step, 60);
  for (const char* file : {"job.yaml", "report.html", "export/labels.txt",
                           "summaries/history.jsonl", "logs/master-0.log", "logs/chief-0.log",
                           "logs/worker-0.log", "logs/worker-1.log", "logs/ps-0.log"}) {
    EXPECT_TRUE(fs::exists(job + "/" + file)) << file;
  }
  EXPECT_THAT(run.out, HasSubstr(job + "/export/model.onnx"));
  EXPECT_THAT(Contents(job + "/logs/worker-1.log"), HasSubstr(" I device /cpu:0"));
  ExpectSameModel(folder, FolderOfLocal(Job()), 60);
}

TEST_P(ContractTest, CtrlCEndsItWithACheckpointFromWhichOtherMachinesGoOn) {
  const std::string folder = NewFolder("stopped");
  TinyJob job = Job();
  job.steps = 600;
  job.evaluate_every = job.save_every = 100;
  {
    Running run(Words(folder, job), false, environment_);
    ASSERT_TRUE(run.WaitFor("step 100/")) << run.out();
    run.Signal(SIGINT);
    const Ended ended = run.Wait();
    EXPECT_EQ(ended.code, 130) << ended.err;
    ExpectForHumans(ended);
  }
  ExpectAllGivenBack();
  const master::JobState state = StateOf(folder + "/job");
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_TRUE(fs::exists(folder + "/job/" + state.last_checkpoint->path + "/manifest.json"));

  const Ended second = Run(Words(folder, job));
  ASSERT_EQ(second.code, 0) << second.out << second.err;
  EXPECT_THAT(second.out, HasSubstr("resuming from the checkpoint of step"));
  ExpectAllGivenBack();
  ExpectSameModel(folder, FolderOfLocal(job), 600);
}

// The first while it trains, MUSTER_ROUNDS more, where somebody asks for them, at any moment.
TEST_P(ContractTest, NothingIsLeftOfLaunchersThatAreKilled) {
  const char* asked = std::getenv("MUSTER_ROUNDS");
  const uint64_t rounds = 1 + (asked == nullptr ? 0 : std::strtoull(asked, nullptr, 10));
  const auto seed = static_cast<uint64_t>(getpid());
  std::printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  for (uint64_t round = 0; round < rounds; ++round) {
    TinyJob job = Job();
    job.steps = 1'000'000;
    if (round > 0) job.workers = static_cast<int>(random() % 3);
    const auto after = std::chrono::milliseconds(random() % 14'000);
    SCOPED_TRACE(testing::Message()
                 << "seed " << seed << " round " << round << " after " << after.count() << " ms");
    {
      Running run(Words(NewFolder(fmt::format("killed_{}", round)), job), false, environment_);
      if (round == 0) {
        ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
        EXPECT_THAT(site_->Held(), Not(IsEmpty()));
      } else {
        std::this_thread::sleep_for(after);
      }
      run.Signal(SIGKILL);
      run.Wait();
    }
    if (site_->rents()) {
      if (round > 0) std::this_thread::sleep_for(std::chrono::milliseconds(random() % 2000));
      const Ended swept = Run({"launch", "gc"});
      EXPECT_EQ(swept.code, 0) << swept.out << swept.err;
    }
    // Of launches that had not asked for anything only their keys are left.
    if (round > 0) RemoveKeys();
    ExpectAllGivenBack(60);
  }
}

TEST_P(ContractTest, AJobThatIsLeftGoesOnAndIsFollowedAgainToItsEnd) {
  const std::string folder = NewFolder("left");
  TinyJob job = Job();
  job.steps = 600;
  std::vector<std::string> words = Words(folder, job);
  words.emplace_back("--async");
  const Ended left = Run(words);
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  EXPECT_THAT(left.out, HasSubstr("launch attach "));
  EXPECT_THAT(site_->Held(), Not(IsEmpty()));
  const Ended followed = Run({"launch", "attach", folder + "/job"});
  ASSERT_EQ(followed.code, 0) << followed.out << followed.err;
  ExpectAllGivenBack();
  EXPECT_EQ(StateOf(folder + "/job").state, RunState::kSucceeded);
  ExpectSameModel(folder, FolderOfLocal(job), 600);
}

TEST_P(ContractTest, ATerminalOnTheMachineOfAnyRoleIsOneCommandAway) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  const std::string folder = NewFolder("terminal");
  Running run(Words(folder, job), false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const std::vector<std::string> here = {"launch", "ssh", folder + "/job"};
  std::set<std::string> networks;
  for (const char* role : {"master-0", "worker-0", "worker-1", "ps-0"}) {
    std::vector<std::string> words = here;
    words.insert(words.end(),
                 {role, "--", "sh", "-c", "echo \"it's $0\"; readlink /proc/self/ns/net; exit 7",
                  "two  words"});
    const Ended said = Run(words);
    EXPECT_EQ(said.code, 7) << said.err;
    EXPECT_THAT(said.out, ::testing::StartsWith("it's two  words\nnet:")) << role;
    networks.insert(said.out);
  }
  // The nodes of the tests' Slurm have one in common; three hosts are for four roles.
  EXPECT_GE(networks.size(), GetParam().name == std::string("Slurm") ? 1u : 3u);
  std::vector<std::string> words = here;
  words.emplace_back("worker-2");
  const Ended none = Run(words);
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("the job has no role 'worker-2'"));
  run.Signal(SIGINT);
  run.Wait();
  ExpectAllGivenBack();
  words.back() = "worker-1";
  if (!site_->rents()) return;
  const Ended over = Run(words);
  EXPECT_EQ(over.code, 2) << over.out;
  EXPECT_THAT(over.err, Not(IsEmpty()));
}

TEST_P(ContractTest, ARoleThatDiesEndsTheJobInOneLineWithItsName) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  Running run(Words(NewFolder("dies"), job), false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  // Wherever it runs, it is a process of this machine's kernel.
  ASSERT_EQ(std::system("pkill -KILL -f -- '[-]-role=ps --index=0'"), 0);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("error: "), HasSubstr("ps-0"), HasSubstr("logs")));
  ExpectForHumans(ended);
  ExpectAllGivenBack();
}

INSTANTIATE_TEST_SUITE_P(Providers, ContractTest, ::testing::ValuesIn(SiteKinds()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace muster::e2e
