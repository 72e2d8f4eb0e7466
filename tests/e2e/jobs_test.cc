// Whole jobs that end well, run with the real programs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string AnyClip() {
  for (const auto& entry : fs::directory_iterator(SpeechData() + "/yes")) return entry.path();
  return "";
}

void ExpectCompleteDirectory(const std::string& dir, int servers) {
  for (const char* file : {"job.yaml", "state.json", "report.html", "export/model.onnx",
                           "export/labels.txt", "export/module.json", "summaries/history.jsonl"}) {
    EXPECT_TRUE(fs::exists(dir + "/" + file)) << file;
  }
  const std::string checkpoint = fmt::format("{}/{}", dir, StateOf(dir).last_checkpoint->path);
  EXPECT_TRUE(fs::exists(checkpoint + "/manifest.json")) << checkpoint;
  for (int i = 0; i < servers; ++i) {
    EXPECT_TRUE(fs::exists(fmt::format("{}/ps-{}.safetensors", checkpoint, i)));
  }
  bool events = false;
  for (const auto& entry : fs::directory_iterator(dir + "/summaries")) {
    events |= entry.path().filename().string().starts_with("events.out.tfevents.");
  }
  EXPECT_TRUE(events);
}

// The nine-worker file of the CUSTOM tier's documentation, as it stands.
TEST(Jobs, MasterAndServersListenOnThePortsOfTheFile) {
  const int first = 20'000 + getpid() % 10'000;
  const auto run = [&](const std::string& name, int count) {
    return RunToEnd(LaunchWords(
        NewFolder(name),
        {.workers = 1,
         .servers = 1,
         .steps = 20,
         .cluster = fmt::format("ports: {{first: {}, last: {}}}", first, first + count - 1)}));
  };
  const Ended two = run("two_ports", 2);
  EXPECT_EQ(two.code, 0) << two.err;
  const Ended one = run("one_port", 1);
  EXPECT_EQ(one.code, 1);
  EXPECT_THAT(one.err, AllOf(HasSubstr("ps-0"),
                             HasSubstr(fmt::format("cannot listen on 127.0.0.1:{}", first))));
  ExpectForHumans(one);
}

TEST(Jobs, TheClassicFileTrainsOnAMasterNineWorkersAndThreeServers) {
  const std::string folder = NewFolder("classic");
  const std::string job = folder + "/job", file = folder + "/custom.yaml";
  WriteText(file,
            "trainingInput: {scaleTier: CUSTOM, masterType: complex_model_m, workerType: "
            "complex_model_m,\n                parameterServerType: large_model, workerCount: 9, "
            "parameterServerCount: 3}\n");
  const Ended run =
      RunToEnd({"launch", "--config", file, "--module-name", "speech_commands.train", "--job-dir",
                job, "--", "--data_dir=" + SpeechData(), "--model_architecture=tiny_conv",
                "--how_many_training_steps=10", "--learning_rate=0.01", "--batch_size=10"});
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  EXPECT_EQ(run.err, "");
  ExpectForHumans(run);
  EXPECT_THAT(run.out, HasSubstr("test accuracy"));

  const master::JobState state = StateOf(job);
  EXPECT_EQ(state.state, RunState::kSucceeded);
  EXPECT_EQ(state.step, 10);
  EXPECT_TRUE(state.metrics.test_accuracy.has_value());
  ASSERT_EQ(state.replicas.size(), 13U);
  EXPECT_EQ(state.replicas[0].pids.size(), 2U) << "the coordinator and the chief trainer";
  for (const master::ReplicaState& replica : state.replicas) {
    EXPECT_EQ(replica.state, "FINISHED") << replica.role << replica.index;
  }

  ExpectCompleteDirectory(job, 3);
  const std::string report = Contents(job + "/report.html");
  for (const char* state : {">EXPECTED<", ">REGISTERED<", ">READY<", ">LOST<"}) {
    EXPECT_THAT(report, ::testing::Not(HasSubstr(state)));
  }
  int logs = 0;
  for (const auto& entry : fs::directory_iterator(job + "/logs")) {
    ++logs;
    const std::string log = Contents(entry.path());
    EXPECT_THAT(log.substr(0, log.find('\n')), HasSubstr(" I device ")) << entry.path();
  }
  EXPECT_EQ(logs, 14) << "13 machines, and the chief trainer's process";
  EXPECT_THAT(RolesOf(job), IsEmpty());

  const Ended said = RunToEnd({"launch", "predict", "--job-dir", job, AnyClip()});
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, ::testing::MatchesRegex("[^\n]*\\.wav( +[a-z_]+ +[0-9.]+ %){3}\n"));
}

TEST(Jobs, BasicIsOneProcess) {
  const std::string folder = NewFolder("basic");
  Running run(LaunchWords(folder, {.steps = 1'000'000}));
  ASSERT_TRUE(run.WaitFor("validation"));
  EXPECT_EQ(RolesOf(folder + "/job").size(), 1U);
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait().code, 130);
  EXPECT_EQ(StateOf(folder + "/job").replicas.size(), 1U);
}

std::string ModelOf(const TinyJob& job) {
  const std::string folder = NewFolder("model");
  const Ended run = RunToEnd(LaunchWords(folder, job));
  EXPECT_EQ(run.code, 0) << run.err;
  return Contents(folder + "/job/export/model.onnx");
}

TEST(Jobs, TheNumberOfServersDoesNotChangeTheModel) {
  const std::string one = ModelOf({.workers = 2, .servers = 1, .steps = 30});
  EXPECT_TRUE(one == ModelOf({.workers = 2, .servers = 2, .steps = 30}));
  // That the comparison can fail:
  EXPECT_FALSE(one == ModelOf({.workers = 2, .servers = 1, .steps = 29}));
}

TEST(Jobs, OneProcessAndAChiefWithAServerGiveTheSameModelOverAnyTransport) {
  const std::string one_process = ModelOf({.steps = 30});
  EXPECT_TRUE(one_process == ModelOf({.servers = 1, .steps = 30}));
  EXPECT_TRUE(one_process == ModelOf({.servers = 1, .steps = 30, .shared_memory = false}));
}

TEST(Jobs, WithABackupWorkerAStoppedProcessStopsNobodyAndComesBack) {
  const std::string folder = NewFolder("backup"), job = folder + "/job";
  Running run(LaunchWords(
      folder,
      {.workers = 2, .servers = 2, .steps = 400, .training = "consistency: {backupWorkers: 1}"}));
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  const pid_t stopped = RolesOf(job).at("worker-1");
  kill(stopped, SIGSTOP);
  const int64_t step = StateOf(job).step;
  while (StateOf(job).step < step + 60) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  kill(stopped, SIGCONT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  ExpectForHumans(ended);
  EXPECT_EQ(StateOf(job).step, 400);
  EXPECT_FALSE(StateOf(job).exact);
  EXPECT_THAT(Contents(job + "/report.html"), HasSubstr("steps that did without it"));
}

TEST(Jobs, TheBestCheckpointIsKnownByItsAccuracy) {
  const std::string folder = NewFolder("best");
  const Ended run = RunToEnd(LaunchWords(folder, {.steps = 40}));
  ASSERT_EQ(run.code, 0) << run.err;
  const master::JobState state = StateOf(folder + "/job");
  ASSERT_TRUE(state.best_checkpoint.has_value());
  EXPECT_TRUE(state.best_checkpoint->validation_accuracy.has_value());
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, 40);
  EXPECT_TRUE(state.last_checkpoint->validation_accuracy.has_value());
  ExpectCompleteDirectory(folder + "/job", 1);
}

TEST(Jobs, WhenTheRunningTimeIsOverTheJobIsCancelledWithACheckpoint) {
  const std::string folder = NewFolder("limit");
  std::vector<std::string> words =
      LaunchWords(folder, {.steps = 1'000'000, .evaluate_every = 100'000, .save_every = 100'000});
  words.insert(words.end(), {"--max-running-time", "1s"});
  const Ended run = RunToEnd(words);
  EXPECT_EQ(run.code, 1);
  ExpectForHumans(run);
  EXPECT_THAT(run.out, HasSubstr("the running time of 1 s is over "
                                 "(trainingInput.scheduling.maxRunningTime)"));
  const master::JobState state = StateOf(folder + "/job");
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, state.step);
  EXPECT_THAT(RolesOf(folder + "/job"), IsEmpty());
}

}  // namespace
}  // namespace muster::e2e
