// What it takes to run a job on other hosts: three of them, each an sshd in a network namespace of
// this machine (tests/e2e/ssh_hosts.h), with the real programs. Needs root.
//
//   ssh_start        seconds from `launch` to its first training step: 3 replicas and a server
//   ssh_start_sent   the same where the hosts have no programs yet (what is sent: ./dev bundle)
//   log_p99          ms from a role's writing of a log line to its being in the job directory here,
//                    of 12 roles; the p99 of all lines of the rounds
//   ssh_join, ssh_leave     seconds from `launch` to the first step of all, and from Ctrl-C to its
//                    end, when no role runs any more: 12 hosts, a role each
//   exec_join, exec_leave   the same of 100 instances on this machine, which an `ssh` that only
//                    runs the command reaches
//
//   bench_hosts [--rounds N] [--hosts N] [--instances N] [--smoke] [--gtest_filter=Hosts.Join*]
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "bench/figures.h"
#include "bench/timing.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/e2e/programs.h"
#include "tests/e2e/ssh_hosts.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using namespace bench;

constexpr double kJoinS = 20, kLeaveS = 10;  // that are asked

int rounds = 5, ssh_hosts = 12, instances = 100;
bool smoke = false;

// What each new line of the logs in a folder took to get there.
class LogWatch {
 public:
  explicit LogWatch(std::string folder)
      : folder_(std::move(folder)), thread_([this] { Watch(); }) {}
  ~LogWatch() {
    over_ = true;
    thread_.join();
  }
  LogWatch(const LogWatch&) = delete;
  LogWatch& operator=(const LogWatch&) = delete;
  // After its end.
  static std::vector<double>& times_ms() {
    static auto* const times = new std::vector<double>;
    return *times;
  }

 private:
  void Watch() {
    std::map<std::string, size_t> seen;
    while (!over_) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(folder_, error)) {
        const std::string path = entry.path().string();
        const auto size = fs::file_size(path, error);
        if (error || size <= seen[path]) continue;
        const auto text = ReadFile(path);
        const int64_t now = UnixMillis();
        if (!text.ok()) continue;
        for (size_t end; (end = text->find('\n', seen[path])) != std::string::npos;) {
          const std::string line = text->substr(seen[path], end - seen[path]);
          const auto written = ParseTime(line.substr(0, line.find(' ')));
          if (written.ok()) times_ms().push_back(static_cast<double>(now - *written));
          seen[path] = end + 1;
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  const std::string folder_;
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

e2e::TinyJob Job(const std::string& cluster, int workers, int servers) {
  e2e::TinyJob job;
  job.workers = workers;
  job.servers = servers;
  job.cluster = cluster;
  return job;
}

// A job of its own, which resumes none of those before.
std::vector<std::string> Words(const std::string& folder, const e2e::TinyJob& job) {
  static int jobs = 0;
  std::vector<std::string> words = e2e::LaunchWords(folder, job);
  words.insert(words.end(), {"--job-id", fmt::format("bench_{}", ++jobs)});
  return words;
}

// Seconds to the first step; the job is then run to its end.
double StartOf(const e2e::TinyJob& job) {
  const std::vector<std::string> words = Words(e2e::NewFolder("start"), job);
  double seconds = 0;
  {
    const auto begin = std::chrono::steady_clock::now();
    e2e::Running run(words);
    EXPECT_TRUE(run.WaitFor("step 1/")) << run.out();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_EQ(run.Wait().code, 0);
  }
  return seconds;
}

struct Stay {
  double join_s = 0, leave_s = 0;
};

// Of a master and workers, one on each of `machines`, whose cluster.ssh.directory is `node_folder`.
Stay StayOf(const std::string& cluster, int machines, const std::string& node_folder,
            const std::map<std::string, std::string>& environment) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  // On few cores a hundred roles take their time.
  e2e::TinyJob job = Job(cluster + ", startTimeoutS: 600", machines - 1, 0);
  job.steps = 1'000'000;
  const std::vector<std::string> words = Words(e2e::NewFolder("stay"), job);
  Stay stay;
  auto begin = Clock::now();
  e2e::Running run(words, /*unprivileged=*/false, environment);
  EXPECT_TRUE(run.WaitFor("step 1/")) << run.out();
  stay.join_s = since(begin);
  const std::string job_dir = node_folder + "/jobs/" + words.back();
  EXPECT_EQ(e2e::RolesOf(job_dir).size(), static_cast<size_t>(machines) + 1) << "master and chief";
  begin = Clock::now();
  run.Signal(SIGINT);
  const e2e::Ended ended = run.Wait();
  stay.leave_s = since(begin);
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  EXPECT_TRUE(e2e::RolesOf(job_dir).empty());
  return stay;
}

void PrintStays(const char* join, const char* leave, const std::string& cluster, int machines,
                const std::string& node_folder,
                const std::map<std::string, std::string>& environment) {
  Figures joins, leaves;
  for (int i = 0; i < (smoke ? 1 : rounds); ++i) {
    const Stay stay = StayOf(cluster, machines, node_folder, environment);
    joins.Add(stay.join_s, 1);
    leaves.Add(stay.leave_s, 1);
  }
  Table table;
  table.Print(join, "s", "", joins, kJoinS, /*is_time=*/true);
  table.Print(leave, "s", "", leaves, kLeaveS, /*is_time=*/true);
  fmt::print("{} and {} are of {} machines\n", join, leave, machines);
}

TEST(Hosts, JoinBySsh) {
  const int machines = smoke ? 3 : ssh_hosts;
  const e2e::SshHosts hosts(machines, e2e::NewFolder("hosts"));
  if (!hosts.problem().empty()) GTEST_SKIP() << hosts.problem();
  PrintStays("ssh_join", "ssh_leave", hosts.Cluster(), machines, hosts.node_folder(), {});
  hosts.ExpectQuiet();
}

TEST(Hosts, JoinByExec) {
  const int machines = smoke ? 3 : instances;
  const std::string folder = e2e::NewFolder("exec");
  e2e::WriteText(folder + "/ssh",
                 "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n"
                 "export SSH_CONNECTION='127.0.0.1 1 127.0.0.1 22'\nexec sh -c \"$*\"\n");
  fs::permissions(folder + "/ssh", fs::perms::owner_all);
  std::vector<std::string> names;
  for (int i = 0; i < machines; ++i) names.push_back(fmt::format("{{host: instance{}}}", i));
  PrintStays("exec_join", "exec_leave",
             fmt::format("provider: SSH, ssh: {{hosts: [{}], directory: {}/node, programs: {}}}",
                         fmt::join(names, ", "), folder, std::getenv("MUSTER_BIN")),
             machines, folder + "/node",
             {{"PATH", fmt::format("{}:{}", folder, std::getenv("PATH"))}});
}

TEST(Hosts, Bench) {
  const e2e::SshHosts hosts(3, e2e::NewFolder("hosts"));
  if (!hosts.problem().empty()) GTEST_SKIP() << hosts.problem();
  Table table;
  Figures start, sent, logs;
  const int runs = smoke ? 1 : rounds;
  for (int i = 0; i < runs; ++i) start.Add(StartOf(Job(hosts.Cluster(), 2, 1)), 1);
  table.Print("ssh_start", "s", "", start, 3, /*is_time=*/true);
  const std::string folder = hosts.node_folder();
  const std::string sending = hosts.Cluster("directory: " + folder);
  bool can_send = false;
  for (const auto& entry :
       fs::directory_iterator(fs::path(std::getenv("MUSTER_BIN")).parent_path())) {
    can_send |= entry.path().filename().string().starts_with("muster-");
  }
  if (!can_send) {
    table.PrintSkipped("ssh_start_sent", "run ./dev bundle first");
  } else if (!smoke) {
    for (int i = 0; i < runs; ++i) {
      for (int host = 0; host < 3; ++host) hosts.On(host, "rm -rf " + folder + "/builds");
      sent.Add(StartOf(Job(sending, 2, 1)), 1);
    }
    table.Print("ssh_start_sent", "s", "", sent, 8, /*is_time=*/true);
  }
  for (int i = 0; i < runs; ++i) {
    const std::string where = e2e::NewFolder("logs");
    e2e::TinyJob job = Job(hosts.Cluster(), smoke ? 1 : 7, smoke ? 1 : 3);
    job.steps = 40;
    job.save_every = 5;
    const LogWatch watch(where + "/job/logs");
    const e2e::Ended run = e2e::RunToEnd(Words(where, job));
    EXPECT_EQ(run.code, 0) << run.err;
  }
  std::vector<double>& times = LogWatch::times_ms();
  ASSERT_FALSE(times.empty());
  std::ranges::sort(times);
  logs.Add(times[(times.size() - 1) * 99 / 100], 1);
  table.Print("log_p99", "ms", "", logs, 250, /*is_time=*/true);
  fmt::print("log_p99 is of {} lines; their median is {} ms\n", times.size(),
             times[times.size() / 2]);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::GTEST_FLAG(brief) = true;
  CLI::App app("What it takes to run a job on other hosts.");
  app.add_option("--rounds", muster::rounds)->capture_default_str();
  app.add_option("--hosts", muster::ssh_hosts, "of ssh_join")->capture_default_str();
  app.add_option("--instances", muster::instances, "of exec_join")->capture_default_str();
  app.add_flag("--smoke", muster::smoke, "only see whether it works");
  CLI11_PARSE(app, argc, argv);
  return RUN_ALL_TESTS();
}
