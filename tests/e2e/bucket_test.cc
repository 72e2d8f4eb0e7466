// Jobs whose directory is in an object store, through the real `aws` against moto's S3 and the real
// `gcloud` against a store of the tests' own.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <sstream>

#include "master/job_directory.h"
#include "tests/e2e/programs.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

struct Store {
  const char* name;
  const char* scheme;
  const char* fake;   // the program that plays it
  const char* needs;  // a shell's question whether it can run
};
constexpr Store kStores[] = {
    {"S3", "s3", "fake_s3.py", "python3 -c 'import moto.server' && command -v aws"},
    {"Gcs", "gs", "fake_gcs.py", "command -v gcloud && command -v python3"},
};

// For messages.
void PrintTo(const Store& store, std::ostream* out) { *out << store.name; }

class BucketTest : public ::testing::TestWithParam<Store> {
 protected:
  void SetUp() override {
    if (Shell(fmt::format("{} && command -v curl", GetParam().needs)).code != 0) {
      GTEST_SKIP() << "needs: " << GetParam().needs;
    }
    server_ = std::make_unique<Running>(std::vector<std::string>{
        "/usr/bin/env", "python3", fmt::format("tests/e2e/{}", GetParam().fake), "models"});
    ASSERT_TRUE(server_->WaitFor("port "));
    std::istringstream said(server_->out().substr(server_->out().rfind("port ")));
    std::string word, aws;
    said >> word >> port_ >> word >> aws;
    home_ = NewFolder("home");
    WriteText(home_ + "/token", "testing");
    environment_ = {
        {"AWS_ENDPOINT_URL", fmt::format("http://127.0.0.1:{}", port_)},
        {"AWS_ACCESS_KEY_ID", "testing"},
        {"AWS_SECRET_ACCESS_KEY", "testing"},
        {"AWS_DEFAULT_REGION", "us-east-1"},
        {"AWS_EC2_METADATA_DISABLED", "true"},
        {"CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE",
         fmt::format("http://127.0.0.1:{}/storage/v1/", port_)},
        {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", home_ + "/token"},
        {"CLOUDSDK_CONFIG", home_ + "/gcloud"},
        {"CLOUDSDK_CORE_CHECK_GCE_METADATA", "0"},
        {"HOME", home_},
        {"MUSTER_HOME", home_ + "/.muster"},
        {"PATH", fmt::format("{}:{}", fs::path(aws).parent_path().string(), std::getenv("PATH"))}};
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    server_->Signal(SIGTERM);
    server_->Wait();
  }

  std::string Address(const std::string& path) const {
    return fmt::format("{}://{}", GetParam().scheme, path);
  }
  std::vector<std::string> Words(const std::string& address, const TinyJob& job) const {
    std::vector<std::string> words = LaunchWords(NewFolder("job"), job);
    words.back() = address;
    return words;
  }
  Ended Launch(const std::vector<std::string>& words) const {
    Ended ended = Running(words, false, environment_).Wait();
    ExpectForHumans(ended);
    return ended;
  }
  // "models/run/state.json 1234" by line.
  std::string Objects() const { return Ask("objects"); }
  std::string Ask(const std::string& what) const {
    return Shell(fmt::format("curl -s 'http://127.0.0.1:{}/_{}'", port_, what)).text;
  }
  // The folder that stands for the only job there is.
  std::string Folder() const {
    for (const auto& entry : fs::directory_iterator(home_ + "/.muster/mirrors")) {
      return entry.path().string() + "/job";
    }
    return "";
  }
  // As a machine that has never seen the job.
  void Elsewhere() { fs::remove_all(home_ + "/.muster"); }

  std::map<std::string, std::string> environment_;

 private:
  std::unique_ptr<Running> server_;
  std::string home_;
  int port_ = 0;
};

TEST_P(BucketTest, AJobLivesInTheStore) {
  const std::string address = Address("models/ada/run-1");
  const TinyJob job = {.workers = 1, .servers = 1, .steps = 400, .save_every = 100};
  Running first(Words(address + "/", job), false, environment_);
  ASSERT_TRUE(first.WaitFor("validation"));
  first.Signal(SIGINT);
  const Ended interrupted = first.Wait();
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_THAT(interrupted.out, HasSubstr(fmt::format("sending {} to {}\n", Folder(), address)));
  EXPECT_THAT(Objects(),
              AllOf(HasSubstr("models/ada/run-1/state.json "),
                    HasSubstr("models/ada/run-1/report.html "), Not(HasSubstr("/lock "))));
  EXPECT_THAT(Contents(Folder() + "/job.yaml"), HasSubstr(address));
  const auto left = StateOf(Folder()).last_checkpoint;
  ASSERT_TRUE(left.has_value());

  Elsewhere();
  const Ended second = Launch(Words(address, job));
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.out, AllOf(HasSubstr(fmt::format("bringing {} to {}\n", address, Folder())),
                                HasSubstr("at step 400 of 400"), HasSubstr("resuming from")))
      << "from step " << left->step;
  EXPECT_THAT(Objects(), AllOf(ContainsRegex("models/ada/run-1/checkpoints/step-400/[^ ]+ "),
                               HasSubstr("models/ada/run-1/export/")));

  Elsewhere();
  std::string clip;
  for (const auto& entry : fs::recursive_directory_iterator(SpeechData())) {
    if (entry.path().extension() == ".wav") clip = entry.path().string();
  }
  const Ended said = Launch({"launch", "predict", "--job-dir", address, clip});
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, HasSubstr(clip));
}

TEST_P(BucketTest, WhatCouldNotBeSentIsSentLater) {
  const std::string address = Address("models/run");
  Running run(Words(address, {.steps = 60}), false, environment_);
  ASSERT_TRUE(run.WaitFor("validation"));
  Ask("forbid?on=1");
  const Ended ended = run.Wait();
  ExpectForHumans(ended);
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("error: "), HasSubstr("ccess"),
                               HasSubstr(fmt::format("launch upload {}", Folder()))));
  const Ended again = Launch({"launch", "upload", Folder()});
  EXPECT_EQ(again.code, 1);
  Ask("forbid?on=0");
  const Ended sent = Launch({"launch", "upload", Folder()});
  EXPECT_EQ(sent.code, 0) << sent.err;
  EXPECT_THAT(Objects(), HasSubstr("models/run/report.html "));
}

TEST_P(BucketTest, WhatAKilledLauncherHasNotSentIsNotLost) {
  const std::string address = Address("models/run");
  const TinyJob job = {.steps = 1'000'000};
  Running first(Words(address, job), false, environment_);
  ASSERT_TRUE(first.WaitFor("validation"));
  first.Signal(SIGINT);
  EXPECT_EQ(first.Wait().code, 130);
  const int64_t sent = StateOf(Folder()).step;

  Running second(Words(address, job), false, environment_);
  const std::string later = fmt::format("step-{}", (sent / 20 + 2) * 20);
  while (!fs::exists(fmt::format("{}/checkpoints/{}/manifest.json", Folder(), later))) {
    usleep(10'000);
  }
  second.Signal(SIGKILL);
  second.Wait();
  EXPECT_THAT(Objects(), Not(HasSubstr(later + "/")));

  Running third(Words(address, job), false, environment_);
  ASSERT_TRUE(third.WaitFor("validation"));
  third.Signal(SIGINT);
  EXPECT_THAT(third.Wait().out, Not(HasSubstr("bringing")));
  EXPECT_GT(StateOf(Folder()).step, sent + 20);
  EXPECT_THAT(Objects(), HasSubstr(fmt::format("step-{}/", StateOf(Folder()).step)));
}

TEST_P(BucketTest, AJobThatRunsElsewhereIsLeftAlone) {
  const std::string address = Address("models/run");
  ASSERT_EQ(Launch(Words(address, {.steps = 20})).code, 0);
  std::string state = Contents(Folder() + "/state.json");
  const size_t at = state.find("SUCCEEDED");
  ASSERT_NE(at, std::string::npos);
  state.replace(at, 9, "RUNNING");
  WriteText(Folder() + "/state.json", state);
  ASSERT_EQ(Launch({"launch", "upload", Folder()}).code, 0);
  Elsewhere();
  const Ended refused = Launch(Words(address, {.steps = 40}));
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("runs on another machine, it seems"));
}

TEST_P(BucketTest, DataInTheStoreIsBroughtToThisMachine) {
  const std::string address = Address("models/clips");
  std::vector<std::string> copy = {"/usr/bin/env", "gcloud", "storage", "rsync", "--recursive"};
  if (std::string(GetParam().scheme) == "s3") copy = {"/usr/bin/env", "aws", "s3", "sync"};
  copy.insert(copy.end(), {SpeechData(), address});
  ASSERT_EQ(Running(copy, false, environment_).Wait().code, 0);

  const TinyJob job = {.workers = 1, .servers = 1, .steps = 20, .data = address};
  const std::string folder = NewFolder("brought"), plain = NewFolder("plain");
  const Ended first = Launch(LaunchWords(folder, job));
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr(fmt::format("bringing {} to {}/.muster/data/clips-", address,
                                               environment_.at("HOME"))));
  TinyJob same = job;
  same.data = "";
  ASSERT_EQ(Launch(LaunchWords(plain, same)).code, 0);
  const std::string model = "/job/export/model.onnx";
  EXPECT_TRUE(Contents(folder + model) == Contents(plain + model)) << "of the same clips";

  Elsewhere();
  const Ended seen =
      Launch({"launch", "evaluate", "--job-dir", plain + "/job", "--", "--data_dir=" + address});
  EXPECT_EQ(seen.code, 0) << seen.err;
  EXPECT_THAT(seen.out, HasSubstr("accuracy"));

  TinyJob nothing = job;
  nothing.data = Address("models/nothing/here");
  const Ended none = Launch(LaunchWords(NewFolder("nothing"), nothing));
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr(fmt::format("there is nothing at {}", nothing.data)));
  nothing.data = Address("models");
  const Ended bad = Launch(LaunchWords(NewFolder("bad"), nothing));
  EXPECT_EQ(bad.code, 2);
  EXPECT_THAT(bad.err, AllOf(HasSubstr("job.yaml:2"), HasSubstr("names no bucket and path in it"),
                             HasSubstr("--data_dir=")));
}

TEST_P(BucketTest, WhatCannotBeUsedSaysWhatToDo) {
  const auto refused = [&](const std::string& address) {
    const Ended ended = Launch(Words(address, {.steps = 20}));
    EXPECT_EQ(ended.code, 2) << address;
    EXPECT_EQ(ended.err.find('\n'), ended.err.size() - 1) << ended.err;
    return ended.err;
  };
  EXPECT_THAT(refused(Address("nobodys-bucket/run")), HasSubstr("make it: "));
  EXPECT_THAT(refused(Address("models")), HasSubstr("names no bucket and path in it"));
  EXPECT_THAT(refused(Address("models/../x")), HasSubstr("\"..\""));
  EXPECT_THAT(refused("hdfs://models/run"), HasSubstr("is no place that launch can reach"));
  environment_["AWS_ACCESS_KEY_ID"] = environment_["AWS_SECRET_ACCESS_KEY"] = "";
  environment_["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"] = "";
  EXPECT_THAT(refused(Address("models/run")), HasSubstr("log in"));
  environment_["PATH"] = "/nowhere";
  EXPECT_THAT(refused(Address("models/run")), HasSubstr("there is no program"));
}

INSTANTIATE_TEST_SUITE_P(Stores, BucketTest, ::testing::ValuesIn(kStores),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace muster::e2e
