// Whatever becomes of the launcher nothing is left: a thousand of them for each cloud, each
// killed (kill -9) at any moment, and `launch gc` after it, on a cloud in memory.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <random>
#include <utility>

#include "tests/cluster/node_set_world.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::IsEmpty;

// The launcher is a process of its own, which asks this one for cloud and time over a socket, a
// message at a time; so it can be killed anywhere, really.
std::string Pack(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += fmt::format("{} {}", word.size(), word);
  return text;
}

std::vector<std::string> Unpack(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t space = text.find(' ', at);
    const size_t size = std::stoul(text.substr(at, space - at));
    words.push_back(text.substr(space + 1, size));
    at = space + 1 + size;
  }
  return words;
}

std::vector<std::string> AskParent(int fd, const std::vector<std::string>& words) {
  const std::string text = Pack(words);
  char answer[1 << 16];
  if (send(fd, text.data(), text.size(), 0) < 0) _exit(9);
  const ssize_t n = recv(fd, answer, sizeof(answer), 0);
  if (n <= 0) _exit(9);
  return Unpack(std::string(answer, static_cast<size_t>(n)));
}

[[noreturn]] void BeLauncher(int fd, const CloudKind& kind, const std::string& folder,
                             const MachineOrder& order, int64_t training_ms) {
  Patience patience;
  patience.now_ms = [fd] { return std::stoll(AskParent(fd, {"now"})[0]); };
  patience.pause = [fd](int64_t ms) {
    return AskParent(fd, {"pause", fmt::format("{}", ms)})[0] == "1";
  };
  const ToolRunner tools = [fd](std::vector<std::string> words, int64_t, const std::string&) {
    words.insert(words.begin(), "tool");
    const std::vector<std::string> answer = AskParent(fd, words);
    return ToolResult{answer[0], answer[1], std::stoi(answer[2])};
  };
  const Cluster cluster = TwoRegions(kind);
  const auto provider =
      MakeProvider({.cluster = cluster, .tools = tools, .patience = patience, .public_key = "key"});
  if (!provider->Check(order).ok()) _exit(3);
  const auto journal = MachineJournal::Begin(folder, HeadOf(kind, order), patience.now_ms());
  if (!journal.ok()) _exit(4);
  NodeSet set(*provider, **journal, patience, [](const std::string&) {});
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  if (!machines.ok()) _exit(5);
  if (machines->empty()) _exit(6);
  (void)patience.pause(training_ms);
  // One in three loses a worker, and asks for another.
  if (order.groups.size() > 1 && order.groups[1].role == Role::kWorker && training_ms % 3 == 0) {
    MachineOrder one = order;
    one.place = machines->front().place;
    one.attempt = 100;
    one.groups = {order.groups[1]};
    one.groups[0].count = 1;
    if (!provider->End((*machines)[1]).ok()) _exit(8);
    if (set.CreateOne(one, 600'000).ok()) (void)patience.pause(training_ms);
  }
  _exit(set.GiveBack().ok() ? 0 : 7);
}

struct Late {
  std::vector<std::string> words;
  int64_t at_ms;
};

// Serves the launcher `pid`, and kills it at its message `kill_at`. Returns how many there were.
int Serve(int fd, pid_t pid, int kill_at, std::mt19937_64& random, World* world,
          std::deque<Late>* late) {
  const auto up_to = [&](int64_t most) {
    return std::uniform_int_distribution<int64_t>(0, most)(random);
  };
  std::vector<char> bytes(1 << 16);
  for (int messages = 0;; ++messages) {
    const ssize_t n = recv(fd, bytes.data(), bytes.size(), 0);
    if (n <= 0) return messages;
    std::vector<std::string> words = Unpack(std::string(bytes.data(), static_cast<size_t>(n)));
    const std::string kind = words[0];
    words.erase(words.begin());
    if (messages == kill_at) {
      kill(pid, SIGKILL);
      // What it had asked for was done, is done, or will be done when it is long dead.
      if (kind == "tool" && up_to(3) > 0) {
        late->push_back({std::move(words), world->now_ms + up_to(1) * up_to(3000)});
      }
      return messages;
    }
    std::vector<std::string> answer;
    if (kind == "now") {
      answer = {fmt::format("{}", world->now_ms)};
    } else if (kind == "pause") {
      answer = {world->patience.pause(std::stoll(words[0])) ? "1" : "0"};
    } else {
      const auto result = world->tools(words, 0, "");
      answer = {result->out, result->err, fmt::format("{}", result->code)};
    }
    const std::string text = Pack(answer);
    if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) return messages;
  }
}

class KilledLaunchersTest : public ::testing::TestWithParam<CloudKind> {
 protected:
  const harness::TemporaryFolder folder_;
};

TEST_P(KilledLaunchersTest, NothingIsLeftOfAThousandLaunchersThatAreKilled) {
  constexpr int kRounds = 1000;
  int killed = 0, ended_well = 0, collected = 0;
  for (uint64_t seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const auto up_to = [&](int64_t most) {
      return std::uniform_int_distribution<int64_t>(0, most)(random);
    };
    const bool kind = up_to(2) == 0;
    FakeCloudOptions options{.seed = seed, .appear_ms = up_to(5000), .boot_ms = up_to(40'000)};
    for (const char* zone : {"us-east1-a", "us-east1-b", "eu-west1-a"}) {
      options.room[zone] = kind ? 9 : up_to(9);
    }
    if (!kind) {
      options.throttled = 0.1;
      options.lost = 0.1;
      options.taken = 0.05;
      if (up_to(3) == 0) options.quota["us-east1"] = up_to(4);
    }
    World world(GetParam(), options);
    if (up_to(5) == 0) world.interrupt_ms = world.now_ms + up_to(60'000);
    const MachineOrder order = OrderOf(up_to(4), up_to(2));
    int64_t total = 0;
    for (const MachineGroup& group : order.groups) total += group.count;
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    const int64_t training_ms = up_to(100'000);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      close(fds[0]);
      BeLauncher(fds[1], GetParam(), folder_.path(), order, training_ms);
    }
    close(fds[1]);
    std::deque<Late> late;
    Serve(fds[0], pid, static_cast<int>(up_to(110)), random, &world, &late);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    close(fds[0]);
    killed += WIFSIGNALED(status) ? 1 : 0;
    ended_well += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : 0;
    world.interrupt_ms = INT64_MAX;

    // launch gc, some time later.
    world.patience.pause = [&](int64_t ms) {
      world.now_ms += ms;
      while (!late.empty() && late.front().at_ms <= world.now_ms) {
        (void)world.cloud->Run(late.front().words, world.now_ms);
        late.pop_front();
      }
      return true;
    };
    (void)world.patience.pause(up_to(4000));
    for (int tries = 0; tries < 20 && !MachineJournal::Jobs(folder_.path()).empty(); ++tries) {
      const auto journal = MachineJournal::TakeOver(folder_.path(), "job");
      ASSERT_TRUE(journal.ok()) << journal.status();
      const auto provider = world.MakeProvider();
      collected += GiveBackMachines(*provider, **journal, world.patience).ok() ? 1 : 0;
    }
    EXPECT_THAT(MachineJournal::Jobs(folder_.path()), IsEmpty());
    (void)world.patience.pause(60'000);
    ASSERT_EQ(world.cloud->Alive(world.now_ms), 0) << "of " << world.cloud->made();
    ASSERT_EQ(world.cloud->Entries(), 0) << "what ends machines later";
    EXPECT_LE(world.cloud->most(), total) << "two sets at once";
  }
  // The rounds were of all kinds.
  EXPECT_GT(killed, kRounds / 3);
  EXPECT_GT(ended_well, kRounds / 20);
  EXPECT_GT(collected, kRounds / 4);
  std::printf("%d killed, %d ended well, %d collected\n", killed, ended_well, collected);
}

INSTANTIATE_TEST_SUITE_P(Clouds, KilledLaunchersTest, ::testing::ValuesIn(kCloudKinds),
                         [](const auto& info) {
                           return Cluster::Provider_Name(info.param.provider);
                         });

}  // namespace
}  // namespace muster::cluster
