// What it takes to run a job on other hosts: three of them, each an sshd in a network namespace of
// this machine (tests/e2e/ssh_hosts.h), with the real programs. Needs root.
//
//   ssh_start        seconds from `launch` to its first training step: 1 master, 2 workers, 1
//   server ssh_start_sent   the same where the hosts have no programs yet (`./dev bundle` makes
//   what is sent) log_p99          ms from a role's writing of a log line to its being in the job
//   directory here, of
//                    12 roles; the p99 of all lines of the rounds
//
//   bench_hosts [--rounds N] [--smoke]
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
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

int rounds = 5;
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
  app.add_flag("--smoke", muster::smoke, "only see whether it works");
  CLI11_PARSE(app, argc, argv);
  return RUN_ALL_TESTS();
}
