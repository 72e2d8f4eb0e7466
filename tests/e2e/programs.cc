#include "tests/e2e/programs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/harness/temporary_folder.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;

constexpr int kEndTimeoutMs = 20'000;
constexpr int kSilenceTimeoutMs = 60'000;
constexpr int64_t kAwaitMs = 240'000;  // while it says other things
constexpr uid_t kNobody = 65534;

std::string Program(const std::string& name) {
  if (name.starts_with("/")) return name;
  const char* folder = std::getenv("MUSTER_BIN");
  return fmt::format("{}/{}", folder == nullptr ? "build/bin" : folder, name);
}

// The folder of everything this binary leaves; removed at its end.
class Scratch : public ::testing::Environment {
 public:
  void SetUp() override { fs::permissions(root(), fs::perms::others_all, fs::perm_options::add); }
  void TearDown() override {
    // What a failed test left is worth a look.
    if (::testing::UnitTest::GetInstance()->failed_test_count() > 0) folder_.Keep();
  }
  const std::string& root() const { return folder_.path(); }

 private:
  harness::TemporaryFolder folder_;
};

Scratch& TheScratch() {
  static auto* const scratch =
      dynamic_cast<Scratch*>(::testing::AddGlobalTestEnvironment(new Scratch));
  return *scratch;
}
// Environments must be known before the tests begin.
[[maybe_unused]] const Scratch& scratch_at_start = TheScratch();

// What the tests' launchers take for ~/.muster.
std::string Registry() { return TheScratch().root() + "/muster"; }

std::string CommandLine(const fs::path& process) {
  const auto text = ReadFile((process / "cmdline").string());
  return text.ok() ? *text : "";
}

std::string ValueOf(const std::string& command_line, const std::string& flag) {
  const size_t begin = command_line.find('\0' + flag + '=');
  if (begin == std::string::npos) return "";
  const size_t value = begin + flag.size() + 2;
  return command_line.substr(value, command_line.find('\0', value) - value);
}

}  // namespace

Running::Running(const std::vector<std::string>& words, bool unprivileged,
                 const std::map<std::string, std::string>& added) {
  err_path_ = NewFolder("run") + "/stderr";
  int out[2];
  EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
  const int err = open(err_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  std::vector<std::string> argv = words;
  argv[0] = Program(words[0]);
  std::vector<char*> pointers;
  for (std::string& word : argv) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  pid_ = fork();
  EXPECT_GE(pid_, 0);
  if (pid_ == 0) {
    // A test that is killed takes its programs along.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("MUSTER_HOME", (Registry() + (unprivileged ? "-nobody" : "")).c_str(), 1);
    for (const auto& [name, value] : added) setenv(name.c_str(), value.c_str(), 1);
    dup2(out[1], 1);
    dup2(err, 2);
    if (unprivileged && (setgid(kNobody) != 0 || setuid(kNobody) != 0)) _exit(126);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  close(out[1]);
  close(err);
  pipe_ = out[0];
}

Running::~Running() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  Wait();
}

bool Running::WaitFor(const std::string& text) {
  for (const int64_t until = MonotonicMillis() + kAwaitMs;;) {
    // Only lines that are complete and were not looked at yet.
    for (size_t end; (end = out_.find('\n', seen_)) != std::string::npos;) {
      const std::string_view line = std::string_view(out_).substr(seen_, end - seen_);
      seen_ = end + 1;
      if (line.find(text) != std::string_view::npos) return true;
    }
    if (MonotonicMillis() > until) {
      ADD_FAILURE() << "\"" << text << "\" is not said within " << kAwaitMs / 1000 << " s";
      kill(pid_, SIGKILL);
      return false;
    }
    if (Read()) continue;
    if (const std::string error = Contents(err_path_); !error.empty()) {
      ADD_FAILURE() << "it ended with:\n" << error;
    }
    return false;
  }
}

bool Running::Read() {
  pollfd wait{pipe_, POLLIN, 0};
  if (poll(&wait, 1, kSilenceTimeoutMs) == 0) {
    ADD_FAILURE() << "silent for " << kSilenceTimeoutMs / 1000 << " s after:\n" << out_;
    kill(pid_, SIGKILL);
    return false;
  }
  char buffer[4096];
  const ssize_t n = read(pipe_, buffer, sizeof(buffer));
  if (n > 0) out_.append(buffer, static_cast<size_t>(n));
  return n > 0;
}

void Running::Signal(int signal) const {
  // To -1 would be to everybody.
  ASSERT_GT(pid_, 0) << "it has ended";
  kill(pid_, signal);
}

Ended Running::Wait() {
  while (Read()) {
  }
  close(pipe_);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), out_, Contents(err_path_)};
}

Ended RunToEnd(const std::vector<std::string>& words) { return Running(words).Wait(); }

std::map<std::string, pid_t> RolesOf(const std::string& job_dir) {
  std::map<std::string, pid_t> roles;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string line = CommandLine(entry.path());
    const std::string program = fs::path(line.substr(0, line.find('\0'))).filename().string();
    if (program != "master" && program != "worker" && program != "ps") continue;
    if (ValueOf(line, "--job-dir") != job_dir) continue;
    const std::string role = ValueOf(line, "--role");
    roles[role.empty() ? "master-0" : fmt::format("{}-{}", role, ValueOf(line, "--index"))] =
        std::stoi(name);
  }
  return roles;
}

std::set<std::string> SocketsOf(const std::map<std::string, pid_t>& roles) {
  std::set<std::string> inodes;
  for (const auto& [name, pid] : roles) {
    std::error_code error;
    for (const auto& fd : fs::directory_iterator(fmt::format("/proc/{}/fd", pid), error)) {
      const std::string target = fs::read_symlink(fd.path(), error).string();
      constexpr std::string_view kSocket = "socket:[";
      if (target.starts_with(kSocket)) {
        inodes.insert(target.substr(kSocket.size(), target.size() - kSocket.size() - 1));
      }
    }
  }
  return inodes;
}

std::set<std::string> SocketsLeft(const std::set<std::string>& inodes) {
  std::set<std::string> left;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/unix"}) {
    std::ifstream file(table);
    for (std::string line; std::getline(file, line);) {
      std::istringstream fields(line);
      for (std::string field; fields >> field;) {
        if (inodes.contains(field)) left.insert(field);
      }
    }
  }
  return left;
}

bool AwaitEnd(const std::map<std::string, pid_t>& roles) {
  for (const auto& [name, pid] : roles) {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) continue;
    pollfd wait{fd, POLLIN, 0};
    const int ready = poll(&wait, 1, kEndTimeoutMs);
    close(fd);
    if (ready != 1) return false;
  }
  return true;
}

std::string NewFolder(const std::string& name) {
  static int count = 0;
  const std::string folder = fmt::format("{}/{}-{}", TheScratch().root(), name, ++count);
  fs::create_directories(folder);
  fs::permissions(folder, fs::perms::others_all, fs::perm_options::add);
  return folder;
}

const std::string& SpeechData() {
  static const auto* const folder = [] {
    auto* const path = new std::string(NewFolder("data"));
    const Ended made =
        RunToEnd({"make_speech_data", "--out", *path, "--clips", "700", "--noise-seconds", "3"});
    EXPECT_EQ(made.code, 0) << made.err;
    return path;
  }();
  return *folder;
}

master::JobState StateOf(const std::string& job_dir) {
  const auto state = master::ReadJobState(job_dir + "/state.json");
  EXPECT_TRUE(state.ok()) << state.status();
  return state.value_or(master::JobState());
}

std::string Contents(const std::string& path) {
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::vector<std::string> LaunchWords(const std::string& folder, const TinyJob& job) {
  std::string cluster = "scaleTier: BASIC";
  if (job.workers > 0 || job.servers > 0) {
    cluster = "scaleTier: CUSTOM, masterType: standard";
    if (job.workers > 0) {
      cluster += fmt::format(", workerType: standard, workerCount: {}", job.workers);
    }
    if (job.servers > 0) {
      cluster +=
          fmt::format(", parameterServerType: standard, parameterServerCount: {}", job.servers);
    }
  }
  if (job.priority > 0) cluster += fmt::format(", scheduling: {{priority: {}}}", job.priority);
  const std::string file = folder + "/job.yaml";
  WriteText(file,
            fmt::format(
                R"(trainingInput: {{{}, pythonModule: speech_commands.train,
  args: [--data_dir={}, --model_architecture={}]}}
training: {{threads: 1, seed: 7, batchSize: {}, schedule: [{{steps: {}, learningRate: 0.01}}],
  checkpoints: {{interval: {}}}, evaluation: {{interval: {}}}{}{}}}
cluster: {{sharedMemory: {}{}{}}}
)",
                cluster, job.data.empty() ? SpeechData() : job.data, job.model, job.batch,
                job.steps, job.save_every, job.evaluate_every, job.training.empty() ? "" : ", ",
                job.training, job.shared_memory, job.cluster.empty() ? "" : ", ", job.cluster));
  return {"launch", "--config", file, "--job-dir", folder + "/job"};
}

void ExpectForHumans(const Ended& ended) {
  const std::regex machine(
      "INTERNAL|INVALID_ARGUMENT|UNAVAILABLE|NOT_FOUND|FAILED_PRECONDITION|DATA_LOSS|"
      "RESOURCE_EXHAUSTED|PERMISSION_DENIED|UNKNOWN:|terminate called|Check failed|\\.cc:[0-9]|"
      "Segmentation|core dumped|std::");
  for (const std::string& text : {ended.out, ended.err}) {
    std::smatch found;
    EXPECT_FALSE(std::regex_search(text, found, machine)) << found.str() << " in:\n" << text;
  }
}

}  // namespace muster::e2e
