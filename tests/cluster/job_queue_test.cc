// Whose turn it is when not all jobs may run at once, whatever becomes of those who wait.
#include "cluster/job_queue.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "cluster/job_registry.h"
#include "cluster/journal.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using master::JobDirectory;
using master::JobLock;
using master::RunState;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class JobQueueTest : public ::testing::Test {
 protected:
  static Limits Jobs(int64_t jobs, int64_t machines = 0) {
    Limits limits;
    limits.set_jobs(jobs);
    limits.set_machines(machines);
    return limits;
  }
  std::unique_ptr<QueueTicket> Enter(const std::string& id, int priority = 0, int64_t machines = 1,
                                     const std::string& provider = "LOCAL") {
    ++now_ms_;
    auto ticket = queue_.Enter({.job_id = id,
                                .job_dir = folder_.path() + "/" + id,
                                .provider = provider,
                                .priority = priority,
                                .machines = machines});
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return *std::move(ticket);
  }
  static bool Begins(QueueTicket& ticket, const Limits& limits) {
    const auto turn = ticket.Ask(limits);
    EXPECT_TRUE(turn.ok()) << turn.status();
    return turn->begins;
  }
  std::vector<std::string> Waiting() const {
    std::vector<std::string> ids;
    for (const QueuedJob& job : queue_.Waiting()) ids.push_back(job.job_id);
    return ids;
  }
  // A job of the registry that says it runs, with so many replicas; its directory.
  std::string Run(const std::string& id, const std::string& provider, bool stays,
                  size_t replicas = 1) {
    const std::string dir = folder_.path() + "/" + id;
    EXPECT_TRUE(master::CreateJobDirectory(JobDirectory(dir)).ok());
    master::JobState state;
    state.job_id = id;
    state.state = RunState::kRunning;
    state.replicas.resize(replicas, {.role = "worker"});
    EXPECT_TRUE(master::WriteJobState(dir + "/state.json", state).ok());
    EXPECT_TRUE(JobRegistry(registry_).Write({id, dir, provider, now_ms_, stays}).ok());
    return dir;
  }

  const harness::TemporaryFolder folder_;
  const std::string registry_ = folder_.path() + "/jobs", journals_ = folder_.path() + "/machines";
  int64_t now_ms_ = 1'700'000'000'000;
  const JobQueue queue_{{.folder = folder_.path() + "/queue",
                         .registry = registry_,
                         .journals = journals_,
                         .now_ms = [this] { return now_ms_; }}};
};

TEST_F(JobQueueTest, TheHighestPriorityIsNextAndOfThoseTheOldest) {
  auto running = Enter("running");
  EXPECT_TRUE(Begins(*running, Jobs(1)));
  auto old = Enter("old"), young = Enter("young"), urgent = Enter("urgent", 7);
  EXPECT_THAT(Waiting(), ElementsAre("urgent", "old", "young"));
  const auto turn = old->Ask(Jobs(1));
  EXPECT_EQ(turn->place, 2U);
  EXPECT_EQ(turn->of, 3U);
  EXPECT_THAT(urgent->Ask(Jobs(1))->runs, HasSubstr("1 job on 1 machine run: running"));
  running.reset();
  EXPECT_FALSE(Begins(*old, Jobs(1)));
  EXPECT_FALSE(Begins(*young, Jobs(1)));
  EXPECT_TRUE(Begins(*urgent, Jobs(1)));
  EXPECT_FALSE(Begins(*old, Jobs(1))) << "the urgent one runs";
  urgent.reset();
  old.reset();
  EXPECT_TRUE(Begins(*young, Jobs(1))) << "who gives up is in nobody's way";
}

TEST_F(JobQueueTest, ManyComeInAnyOrderAndLeaveInTheRightOne) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  std::vector<std::pair<std::string, std::unique_ptr<QueueTicket>>> tickets;
  std::vector<std::pair<int, int>> expected;  // -priority, when it came
  for (int i = 0; i < 30; ++i) {
    const int priority = static_cast<int>(random() % 4);
    expected.emplace_back(-priority, i);
    tickets.emplace_back(fmt::format("{}", i), Enter(fmt::format("{}", i), priority));
  }
  std::ranges::sort(expected);
  for (const auto& [priority, i] : expected) {
    std::ranges::shuffle(tickets, random);
    std::string begun;
    for (auto& [id, ticket] : tickets) {
      if (!Begins(*ticket, Jobs(1))) continue;
      EXPECT_EQ(begun, "") << "two at once";
      begun = id;
    }
    EXPECT_EQ(begun, fmt::format("{}", i));
    std::erase_if(tickets, [&](const auto& entry) { return entry.first == begun; });
  }
}

TEST_F(JobQueueTest, ProvidersHaveQueuesOfTheirOwn) {
  auto here = Enter("here"), there = Enter("there", 0, 1, "SLURM");
  EXPECT_TRUE(Begins(*here, Jobs(1)));
  EXPECT_TRUE(Begins(*there, Jobs(1)));
}

TEST_F(JobQueueTest, MachinesAreCountedAndASmallJobDoesNotPassALargeOne) {
  auto first = Enter("first", 0, 3, "AWS");
  EXPECT_TRUE(Begins(*first, Jobs(0, 5)));
  auto large = Enter("large", 0, 4, "AWS"), small = Enter("small", 0, 1, "AWS");
  EXPECT_FALSE(Begins(*large, Jobs(0, 5)));
  EXPECT_FALSE(Begins(*small, Jobs(0, 5)));
  EXPECT_TRUE(Begins(*large, Jobs(0, 7)));
  EXPECT_FALSE(Begins(*small, Jobs(0, 7)));
  first.reset();
  EXPECT_TRUE(Begins(*small, Jobs(0, 7)));
}

TEST_F(JobQueueTest, AKilledLauncherIsInNobodysWay) {
  for (const bool runs : {false, true}) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto ticket = Enter("killed", 9);
      if (runs) (void)Begins(*ticket, Jobs(1));
      (void)!write(ready[1], "x", 1);
      pause();
      _exit(0);
    }
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    auto next = Enter("next");
    EXPECT_FALSE(Begins(*next, Jobs(1)));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    EXPECT_THAT(Waiting(), ElementsAre("next"));
    EXPECT_TRUE(Begins(*next, Jobs(1)));
    close(ready[0]);
    close(ready[1]);
  }
}

TEST_F(JobQueueTest, JobsThatNeverWaitedCountWhileTheyRun) {
  auto job = Enter("job");
  const std::string dir = Run("other", "LOCAL", /*stays=*/false);
  EXPECT_TRUE(JobRegistry(registry_).Write({"lost", Run("lost", "LOCAL", false), "LOCAL", 1}).ok());
  {
    const auto lock = JobLock::Take(JobDirectory(dir), 0);
    ASSERT_TRUE(lock.ok());
    EXPECT_THAT(job->Ask(Jobs(1))->runs, HasSubstr("1 job on 1 machine run: other"));
    EXPECT_FALSE(Begins(*job, Jobs(1)));
  }
  EXPECT_TRUE(Begins(*job, Jobs(1))) << "it has died with its launcher";
}

TEST_F(JobQueueTest, AJobThatWasLeftCountsAsLongAsItMayGoOn) {
  Run("left", "SSH", /*stays=*/true, 3);
  auto job = Enter("job", 0, 1, "SSH");
  EXPECT_THAT(job->Ask(Jobs(1))->runs, HasSubstr("1 job on 3 machines run: left (left)"));
  EXPECT_FALSE(Begins(*job, Jobs(0, 3)));
  now_ms_ += 8LL * 86'400'000;  // past the seven days of a job that does not say
  EXPECT_TRUE(Begins(*job, Jobs(1)));

  const std::string dir = Run("rented", "AWS", /*stays=*/true);
  JournalHead head{.job_id = "rented", .run = "mu1", .job_dir = dir, .owner = "me@here"};
  head.cluster.set_provider(Cluster::AWS);
  auto journal = MachineJournal::Begin(journals_, head, now_ms_);
  ASSERT_TRUE(journal.ok());
  auto other = Enter("other", 0, 1, "AWS");
  EXPECT_FALSE(Begins(*other, Jobs(1)));
  ASSERT_TRUE((*journal)->Close().ok());
  EXPECT_TRUE(Begins(*other, Jobs(1))) << "its machines were given back";
}

TEST_F(JobQueueTest, WhatElseLiesInTheFolderIsNobodysPlace) {
  auto first = Enter("first");
  std::ofstream(folder_.path() + "/queue/torn.json") << "{";
  fs::create_directory(folder_.path() + "/queue/folder.json");
  fs::create_symlink("/dev/zero", folder_.path() + "/queue/zero.json");
  ASSERT_EQ(mkfifo((folder_.path() + "/queue/pipe.json").c_str(), 0600), 0);
  EXPECT_THAT(Waiting(), ElementsAre("first"));
  EXPECT_TRUE(Begins(*first, Jobs(1)));
}

class AwaitTurnTest : public JobQueueTest {
 protected:
  absl::Status Await(const QueuedJob& job, const Limits& limits, int64_t max_wait_ms) {
    const auto ticket = AwaitTurn(
        queue_, job, limits, max_wait_ms, patience_,
        [this](const std::string& line) { said_.push_back(line); }, [this] { ++left_; });
    return ticket.status();
  }
  static constexpr int64_t kDayMs = 86'400'000;
  int pauses_ = 1'000'000;
  int left_ = 0;
  std::vector<std::string> said_;
  const Patience patience_{.now_ms = [this] { return now_ms_; },
                           .pause =
                               [this](int64_t ms) {
                                 now_ms_ += ms;
                                 return --pauses_ > 0;
                               }};
};

TEST_F(AwaitTurnTest, NobodyWaitsWhereThereIsRoom) {
  EXPECT_TRUE(Await({.job_id = "job", .provider = "LOCAL"}, Jobs(1), kDayMs).ok());
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_EQ(left_, 0);
  EXPECT_THAT(Waiting(), IsEmpty());
}

TEST_F(AwaitTurnTest, WhoWaitsTooLongOrIsInterruptedIsGivenUpInOneLine) {
  auto running = Enter("running");
  ASSERT_TRUE(Begins(*running, Jobs(1)));
  const QueuedJob job{.job_id = "job", .provider = "LOCAL"};
  const absl::Status late = Await(job, Jobs(1), 60'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(late));
  EXPECT_THAT(late.message(), HasSubstr("scheduling.maxWaitTime"));
  EXPECT_THAT(said_, ElementsAre("waiting for cluster.limits: place 1 of 1; 1 job on 1 machine "
                                 "run: running"))
      << "once";
  EXPECT_EQ(left_, 1);
  pauses_ = 3;
  EXPECT_TRUE(absl::IsCancelled(Await(job, Jobs(1), kDayMs)));
  EXPECT_THAT(Waiting(), IsEmpty());
}

TEST_F(AwaitTurnTest, WhatCanNeverBeginIsNotQueued) {
  const absl::Status refused =
      Await({.job_id = "job", .provider = "AWS", .machines = 5}, Jobs(0, 4), kDayMs);
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("5 machines"), HasSubstr("lets 4 run")));
}

}  // namespace
}  // namespace muster::cluster
