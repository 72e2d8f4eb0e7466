// launch jobs on directories as runs leave them.
#include "cluster/jobs_command.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cluster/attach_command.h"
#include "cluster/job_logs.h"
#include "cluster/job_look.h"
#include "cluster/journal.h"
#include "master/job_directory.h"
#include "tests/cluster/said.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using master::JobDirectory;
using master::JobLock;
using master::RunState;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class JobsCommandTest : public ::testing::Test {
 protected:
  Said Run(const std::vector<std::string>& words) {
    return RunSaid(words, [&](const CommandContext& context) {
      return RunJobsCommand(
          context, registry_, machines_, queue_, [this](const Job& job, bool cancel) {
            attached_ =
                fmt::format("{} {}", job.training_input().job_dir(), cancel ? "cancel" : "follow");
            return 0;
          });
    });
  }
  // A job whose last launcher left it in `state`; returns its directory.
  std::string Add(const std::string& id, RunState state, const std::string& provider = "LOCAL",
                  bool stays = false) {
    const std::string dir = folder_.path() + "/" + id;
    EXPECT_TRUE(master::CreateJobDirectory(JobDirectory(dir)).ok());
    master::JobState record;
    record.job_id = id;
    record.state = state;
    record.step = 40;
    record.total_steps = 60;
    record.dollars_per_hour = 2;
    record.update_ms = record.end_ms = kBegan + 1'800'000;
    record.error_message = state == RunState::kFailed ? "worker-1 is gone" : "";
    record.replicas = {{.role = "ps", .index = 3, .state = "READY", .host = "h\x1b[2J"}};
    EXPECT_TRUE(master::WriteJobState(dir + "/state.json", record).ok());
    EXPECT_TRUE(JobRegistry(registry_).Write({id, dir, provider, kBegan, stays}).ok());
    return dir;
  }
  void Log(const std::string& dir, const std::string& role, const std::string& text) {
    std::ofstream(dir + "/logs/" + role + ".log", std::ios::app) << text;
  }

  static constexpr int64_t kBegan = 1'700'000'000'000;
  const harness::TemporaryFolder folder_;
  std::string attached_;  // which job was attached to, and how
  const std::string registry_ = folder_.path() + "/jobs", machines_ = folder_.path() + "/machines";
  const JobQueue queue_{{.folder = folder_.path() + "/queue",
                         .registry = registry_,
                         .journals = machines_,
                         .now_ms = [] { return kBegan; }}};
};

TEST_F(JobsCommandTest, AJobThatNobodyRunsIsNotSaidToRun) {
  const std::string held = Add("held", RunState::kRunning);
  const auto lock = JobLock::Take(JobDirectory(held), 0);
  ASSERT_TRUE(lock.ok());
  Add("lost", RunState::kRunning);
  Add("done", RunState::kSucceeded);
  Add("rented", RunState::kSucceeded, "AWS");
  Add("away", RunState::kRunning, "SSH", /*stays=*/true);
  Add("cut", RunState::kRunning, "SSH");
  fs::remove_all(Add("gone", RunState::kSucceeded));
  std::ofstream(Add("torn", RunState::kRunning) + "/state.json") << "{";
  const std::string list = Run({"list", "--all"}).out;
  EXPECT_THAT(list, ContainsRegex("held +LOCAL +RUNNING +40/60 "));
  EXPECT_THAT(list, ContainsRegex("lost +LOCAL +LOST +40/60 .* - +- ")) << "nothing is paid";
  EXPECT_THAT(list, ContainsRegex("done +LOCAL +SUCCEEDED "));
  EXPECT_THAT(list, ContainsRegex("rented +AWS +SUCCEEDED .* 2.00 +1.00 "));
  EXPECT_THAT(list, ContainsRegex("away +SSH +DETACHED "));
  EXPECT_THAT(list, ContainsRegex("cut +SSH +LOST "));
  EXPECT_THAT(list, ContainsRegex("gone +LOCAL +GONE .*\\(its directory is gone\\)"));
  EXPECT_THAT(list, ContainsRegex("torn +LOCAL +UNKNOWN "));
}

TEST_F(JobsCommandTest, JobsWhoseDirectoriesAreGoneAreOnlyCounted) {
  fs::remove_all(Add("gone", RunState::kSucceeded));
  EXPECT_EQ(Run({"list"}).out, "1 more, whose directories are gone: launch jobs list --all\n");
  Add("done", RunState::kSucceeded);
  const std::string list = Run({"list"}).out;
  EXPECT_THAT(list, ContainsRegex("done +LOCAL +SUCCEEDED "));
  EXPECT_THAT(list, Not(HasSubstr("GONE")));
  EXPECT_THAT(list, HasSubstr("\n1 more, whose directories are gone: launch jobs list --all\n"));
  EXPECT_THAT(Run({"list", "--all"}).out, ContainsRegex("gone +LOCAL +GONE "));
  EXPECT_EQ(Run({"describe", "--all", "done"}).code, 2);
}

TEST_F(JobsCommandTest, AJobThatWaitsIsShownWithItsPlace) {
  const std::string again = Add("again", RunState::kFailed);
  const auto first = queue_.Enter({.job_id = "first", .job_dir = "/f", .provider = "LOCAL"});
  const auto second =
      queue_.Enter({.job_id = "again", .job_dir = again, .provider = "LOCAL", .priority = 3});
  ASSERT_TRUE(first.ok() && second.ok());
  const std::string list = Run({"list"}).out;
  EXPECT_THAT(list, ContainsRegex("first +LOCAL +QUEUED .* /f  .place 2, priority 0"));
  EXPECT_THAT(list, ContainsRegex("again +LOCAL +QUEUED .*place 1, priority 3"));
  EXPECT_THAT(list, Not(HasSubstr("FAILED"))) << "what was before";
  for (const char* word : {"first", "fi", "/f"}) {
    EXPECT_THAT(Run({"describe", word}).out, HasSubstr("place 2")) << word;
  }
  EXPECT_EQ(Run({"logs", "first"}).code, 2);
  const auto third = queue_.Enter({.job_id = "fifth", .job_dir = "/g", .provider = "LOCAL"});
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(Run({"describe", "fi"}).code, 2) << "two begin like that";
}

TEST_F(JobsCommandTest, MachinesThatMayStillCostAreNamed) {
  JournalHead head{.job_id = "left", .run = "mu1", .job_dir = "/left", .owner = "me@here"};
  head.cluster.set_provider(Cluster::AWS);
  const int64_t later = 4'000'000'000'000;
  ASSERT_TRUE((*MachineJournal::Begin(machines_, head, 0))->Leaving(later).ok());
  head.job_id = "dead";
  ASSERT_TRUE(MachineJournal::Begin(machines_, head, 0).ok());
  head.job_id = "stopped";
  ASSERT_TRUE((*MachineJournal::Begin(machines_, head, 0))->Stopping(1000, "3 disks, $24").ok());
  head.job_id = "followed";
  const auto followed = MachineJournal::Begin(machines_, head, 0);
  head.job_id = "pods";
  head.cluster.set_provider(Cluster::KUBERNETES);
  ASSERT_TRUE(MachineJournal::Begin(machines_, head, 0).ok());
  std::ofstream(machines_ + "/torn.jsonl") << "{\n";
  const std::string list = Run({"list"}).out;
  EXPECT_THAT(list, HasSubstr("torn: what it has rented is not known"));
  EXPECT_THAT(list, AllOf(ContainsRegex("left: its machines cost .* 2096-.* launch attach left"),
                          ContainsRegex("dead: .* launch gc"),
                          HasSubstr("stopped: its machines are stopped since 1970-01-01T00:00:01"),
                          HasSubstr("3 disks, $24; launch gc --stopped stopped deletes them"),
                          Not(HasSubstr("followed")), Not(HasSubstr("pods"))));
}

TEST_F(JobsCommandTest, DescribeSaysWhatIsKnownAndWhatToDo) {
  Add("failed", RunState::kFailed, "AWS");
  Add("lost", RunState::kRunning);
  const Said failed = Run({"describe", "failed"});
  EXPECT_EQ(failed.code, 0);
  EXPECT_THAT(failed.out, AllOf(ContainsRegex("state +FAILED"), HasSubstr("worker-1 is gone"),
                                ContainsRegex("step +40 of 60"), ContainsRegex("so far +1.00"),
                                ContainsRegex("ps-3 +READY on h"), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(Run({"describe", "lost"}).out, HasSubstr("nobody runs it: launch again"));
}

TEST_F(JobsCommandTest, LogsAreOneTextInTheOrderOfTime) {
  const std::string dir = Add("job", RunState::kSucceeded);
  Log(dir, "master-0",
      "2026-11-21T06:30:01.000Z master I two\n2026-11-21T06:30:03.000Z master I four\n");
  Log(dir, "worker-1", "2026-11-21T06:30:00.000Z worker-1 I one\nlibrary: one more\n");
  Log(dir, "ps-0", "2026-11-21T06:30:02.000Z ps-0 I three\nunfinished");
  const std::string text = Run({"logs", "job"}).out;
  const std::vector<std::string> words = {"one\n", "library: one more", "two",
                                          "three", "unfinished\n",      "four"};
  size_t at = 0;
  for (const std::string& word : words) {
    at = text.find(word, at);
    ASSERT_NE(at, std::string::npos) << word << " is missing or out of place in\n" << text;
  }
  EXPECT_EQ(Run({"logs", "job", "--role", "worker-1"}).out,
            "2026-11-21T06:30:00.000Z worker-1 I one\nlibrary: one more\n");
  const Said wrong = Run({"logs", "job", "--role=worker-2"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("worker-1"));
}

TEST_F(JobsCommandTest, FollowingALogMissesNothingWhenItIsMovedAside) {
  const std::string dir = Add("job", RunState::kRunning), path = dir + "/logs/ps-0.log";
  JobLogs logs(dir + "/logs", "");
  Log(dir, "ps-0", "one\ntw");
  EXPECT_EQ(logs.Take(false), "one\n");
  Log(dir, "ps-0", "o\n");
  EXPECT_EQ(logs.Take(false), "two\n");
  EXPECT_EQ(logs.Take(false), "");
  fs::rename(path, path + ".1");
  Log(dir, "ps-0", "three and a longer line than before\n");
  EXPECT_EQ(logs.Take(false), "three and a longer line than before\n");
}

TEST_F(JobsCommandTest, CancelSaysWhenThereIsNothingToCancel) {
  Add("lost", RunState::kRunning);
  Add("done", RunState::kSucceeded);
  const Said lost = Run({"cancel", "lost"});
  EXPECT_EQ(lost.code, 1);
  EXPECT_THAT(lost.err, HasSubstr("nobody runs the job in"));
  EXPECT_THAT(Run({"cancel", "done"}).err, HasSubstr("has ended already: SUCCEEDED"));
}

TEST_F(JobsCommandTest, AJobThatGoesOnElsewhereIsCancelledThere) {
  const std::string dir = Add("away", RunState::kRunning, "SSH", /*stays=*/true);
  EXPECT_EQ(Run({"cancel", "away"}).code, 2);
  EXPECT_EQ(attached_, "") << "there is no job.yaml";
  std::ofstream(dir + "/job.yaml") << "jobId: away\ntrainingInput: {jobDir: elsewhere}\n";
  EXPECT_EQ(Run({"cancel", "away"}).code, 0);
  EXPECT_EQ(attached_, dir + " cancel");
  // A directory that came from another machine: only its hosts know.
  attached_.clear();
  fs::remove_all(registry_);
  EXPECT_THAT(Run({"describe", dir}).out,
              AllOf(ContainsRegex("state +UNKNOWN"), HasSubstr("launch attach")));
  EXPECT_EQ(Run({"cancel", dir}).code, 0);
  EXPECT_EQ(attached_, dir + " cancel");
  for (const char* text : {"jobId: [", "jobIdd: x\n"}) {
    std::ofstream(dir + "/job.yaml") << text;
    attached_.clear();
    const Said said = Run({"cancel", dir});
    EXPECT_EQ(said.code, 2);
    EXPECT_THAT(said.err, ContainsRegex("^[^\n]+job.yaml[^\n]+\n$"));
    EXPECT_EQ(attached_, "");
  }
}

TEST_F(JobsCommandTest, AJobThatWaitsCannotBeFollowedYet) {
  // What an earlier launch has left in its directory is not what the user means.
  const std::string again = Add("again", RunState::kSucceeded);
  std::ofstream(again + "/job.yaml") << "jobId: again\n";
  const auto first = queue_.Enter({.job_id = "first", .job_dir = "/f", .provider = "LOCAL"});
  const auto second = queue_.Enter({.job_id = "again", .job_dir = again, .provider = "LOCAL"});
  ASSERT_TRUE(first.ok() && second.ok());
  for (const char* word : {"first", "fir", "again"}) {
    CommandContext context;
    char* text = nullptr;
    size_t size = 0;
    context.words = {word};
    context.err = open_memstream(&text, &size);
    const int code = RunAttachCommand(context, registry_, queue_, [](const Job&, bool) {
      ADD_FAILURE() << "followed";
      return 0;
    });
    std::fclose(context.err);
    EXPECT_EQ(code, 2);
    EXPECT_THAT(std::string(text, size), ContainsRegex("^[^\n]+ waits for its turn[^\n]+\n$"));
    std::free(text);
  }
}

TEST_F(JobsCommandTest, CancelSendsNoSignalToAStranger) {
  // The lock names a process that does not hold it: its number was given to another program.
  const std::string dir = Add("job", RunState::kRunning);
  const auto lock = JobLock::Take(JobDirectory(dir), 0);
  ASSERT_TRUE(lock.ok());
  int closed[2];
  ASSERT_EQ(pipe(closed), 0);
  const pid_t stranger = fork();
  if (stranger == 0) {
    for (int fd = 3; fd < 1000; ++fd) close(fd);
    for (;;) pause();
  }
  close(closed[1]);
  char byte;
  ASSERT_EQ(read(closed[0], &byte, 1), 0) << "it has closed what it inherited";
  close(closed[0]);
  std::ifstream file(dir + "/lock");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::string own = "process " + std::to_string(getpid());
  text.replace(text.find(own), own.size(), "process " + std::to_string(stranger));
  std::ofstream(dir + "/lock") << text;
  EXPECT_EQ(Run({"cancel", "job"}).code, 1);
  kill(stranger, SIGKILL);
  int status = 0;
  waitpid(stranger, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(JobsCommandTest, WordsThatMakeNoSenseAreOneLine) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{},
                                             {"lst"},
                                             {"describe"},
                                             {"list", "job"},
                                             {"list", "-f"},
                                             {"logs", "a", "b"},
                                             {"logs", "nothing"},
                                             {"describe", ""},
                                             {"describe", "--wide"}}) {
    const Said said = Run(words);
    EXPECT_EQ(said.code, 2);
    EXPECT_THAT(said.err, ContainsRegex("^[^\n]+\n$"));
    EXPECT_EQ(said.out, "");
  }
  EXPECT_EQ(Run({"--help"}).code, 0);
}

}  // namespace
}  // namespace muster::cluster
