// Programs and servers that nobody launches: what docs/client.md shows, as a reader would run it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>

#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

using ::testing::HasSubstr;

constexpr const char* kLine = "y = 3.0000 x + 1.0000";

class ClientProgram : public ::testing::Test {
 protected:
  ClientProgram() : job_file_(NewFolder("client") + "/job.yaml") {
    WriteText(job_file_, "training:\n  schedule:\n  - {steps: 1000, learningRate: 0.5}\n");
    for (int i = 0; i < 2; ++i) {
      servers_.push_back(std::make_unique<Running>(
          std::vector<std::string>{"ps", "--listen=127.0.0.1:0", "--config=" + job_file_}, false,
          token_));
      EXPECT_TRUE(servers_.back()->WaitFor("serving at "));
      const std::string& out = servers_.back()->out();
      addresses_.push_back(out.substr(sizeof("serving at ") - 1, out.find('\n') - 11));
    }
  }

  std::unique_ptr<Running> Start(int replica, std::map<std::string, std::string> environment) {
    return std::make_unique<Running>(
        std::vector<std::string>{"client_example", std::to_string(replica), "2", addresses_[0],
                                 addresses_[1]},
        false, environment);
  }
  std::unique_ptr<Running> Start(int replica) { return Start(replica, token_); }

  const std::map<std::string, std::string> token_ = {{"MUSTER_JOB_TOKEN", "between-us"}};
  const std::string job_file_;
  std::vector<std::unique_ptr<Running>> servers_;
  std::vector<std::string> addresses_;
};

TEST_F(ClientProgram, TwoProgramsTrainOnTwoServers) {
  const auto first = Start(0), second = Start(1);
  for (const auto& program : {first.get(), second.get()}) {
    const Ended ended = program->Wait();
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_THAT(ended.out, HasSubstr(kLine));
  }
  for (const auto& server : servers_) {
    server->Signal(SIGTERM);
    EXPECT_EQ(server->Wait().code, 0);
  }
}

TEST_F(ClientProgram, AProgramThatIsKilledAndRunAgainGoesOn) {
  const auto first = Start(0);
  {
    const auto second = Start(1);
    ASSERT_TRUE(second->WaitFor("step 300"));
  }
  const auto again = Start(1);
  for (const auto& program : {first.get(), again.get()}) {
    const Ended ended = program->Wait();
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_THAT(ended.out, HasSubstr(kLine));
  }
}

TEST_F(ClientProgram, AnotherTokenIsRefusedInOneLine) {
  const Ended ended = Start(0, {{"MUSTER_JOB_TOKEN", "a guess"}})->Wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("parameter server 0 at " + addresses_[0]));
  EXPECT_THAT(ended.err, HasSubstr("token"));
}

TEST_F(ClientProgram, AServerSaysWhatIsWrongWithItsArguments) {
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"ps", "--listen=127.0.0.1:0"});
    const Ended ended = Running(words, false, token_).Wait();
    EXPECT_EQ(ended.code, 2);
    return ended.err;
  };
  EXPECT_THAT(run({}), HasSubstr("--config=FILE is missing"));
  EXPECT_THAT(run({"--config=/nowhere.yaml"}), HasSubstr("/nowhere.yaml"));
  EXPECT_THAT(run({"--sonfig=x"}), HasSubstr("unknown argument --sonfig=x"));
  WriteText(job_file_, "training: {optimizer: {name: momentun}}");
  EXPECT_THAT(run({"--config=" + job_file_}), HasSubstr("training.schedule is missing"));
  WriteText(job_file_,
            "training: {optimizer: {name: momentun}, schedule: [{steps: 1, learningRate: 1}]}");
  EXPECT_THAT(run({"--config=" + job_file_}), HasSubstr("momentum"));
}

TEST(ClientDocument, ShowsTheProgramThatTheTestsRun) {
  const std::string document = Contents("docs/client.md");
  EXPECT_THAT(document, HasSubstr("```cpp\n" + Contents("docs/client_example.cc") + "```\n"));
}

}  // namespace
}  // namespace muster::e2e
