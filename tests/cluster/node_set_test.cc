// A job's machines are all there or none, and whatever becomes of the launcher nothing is left:
// NodeSet, its journal and the provider AWS on an EC2 in memory (tests/cluster/fake_ec2.h).
#include "cluster/node_set.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <memory>
#include <random>
#include <utility>

#include "cluster/aws_provider.h"
#include "tests/cluster/fake_ec2.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using harness::TemporaryFolder;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Aws TwoRegions() {
  Aws aws;
  aws.add_regions("us-east-1");
  aws.add_regions("eu-west-1");
  aws.set_image("ami-1");
  return aws;
}

MachineOrder Order(int64_t workers, int64_t servers, const std::string& run = "mu1") {
  MachineOrder order;
  order.job_id = "job";
  order.run = run;
  order.owner = "me@here";
  order.lifetime_s = 3600;
  order.groups = {{.role = Role::kMaster, .count = 1, .type = "m6i.xlarge", .vcpus = 4}};
  if (workers > 0) {
    order.groups.push_back(
        {.role = Role::kWorker, .count = workers, .type = "c6i.2xlarge", .vcpus = 8});
  }
  if (servers > 0) {
    order.groups.push_back(
        {.role = Role::kParameterServer, .count = servers, .type = "r6i.xlarge", .vcpus = 4});
  }
  return order;
}

JournalHead Head(const MachineOrder& order) {
  JournalHead head{.job_id = order.job_id, .run = order.run, .job_dir = "/j", .owner = order.owner};
  head.cluster.set_provider(Cluster::AWS);
  *head.cluster.mutable_aws() = TwoRegions();
  return head;
}

// A launcher in this process, and the clock of its world.
class World {
 public:
  explicit World(FakeEc2Options options) : cloud(std::move(options)) {
    patience.now_ms = [this] { return now_ms; };
    patience.pause = [this](int64_t ms) {
      now_ms += ms;
      return now_ms < interrupt_ms;
    };
    tools = [this](const std::vector<std::string>& words, int64_t, const std::string&) {
      now_ms += 50;
      return cloud.Run(words, now_ms);
    };
  }
  AwsProvider Provider() { return AwsProvider(TwoRegions(), "key", tools, patience, nullptr); }
  Say Listen() {
    return [this](const std::string& line) { said.push_back(line); };
  }

  FakeEc2 cloud;
  int64_t now_ms = 1'000'000, interrupt_ms = INT64_MAX;
  Patience patience;
  ToolRunner tools;
  std::vector<std::string> said;
};

class NodeSetTest : public ::testing::Test {
 protected:
  std::unique_ptr<MachineJournal> Journal(const MachineOrder& order) {
    auto journal = MachineJournal::Begin(folder_.path(), Head(order), 0);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }
  std::vector<std::string> Journals() { return MachineJournal::Jobs(folder_.path()); }

  const TemporaryFolder folder_;
};

TEST_F(NodeSetTest, AllMachinesRunInOnePlaceByRoleAndIndex) {
  World world({.room = {{"us-east-1a", 9}}, .appear_ms = 1000, .boot_ms = 30'000});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(3, 2);
  ASSERT_TRUE(provider.Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  std::vector<std::string> names;
  for (const Machine& machine : *machines) {
    names.push_back(fmt::format("{}-{}", RoleName(machine.role), machine.index));
    EXPECT_EQ(machine.place, (Place{"us-east-1", "us-east-1a"}));
    EXPECT_EQ(machine.owner, "me@here");
  }
  EXPECT_THAT(names, ElementsAre("master-0", "worker-0", "worker-1", "worker-2", "ps-0", "ps-1"));
  EXPECT_EQ(world.cloud.Alive(world.now_ms), 6);
  const int64_t before = world.now_ms;
  EXPECT_TRUE(set.GiveBack().ok());
  EXPECT_EQ(world.cloud.Alive(world.now_ms), 0);
  EXPECT_LE(world.now_ms - before, 15'000);
  EXPECT_THAT(Journals(), IsEmpty());
}

TEST_F(NodeSetTest, ZonesWithoutRoomAndRegionsWithoutQuotaAreToldAndPassedBy) {
  // No room in the first zone; in the second one for the master alone; no quota in what is left of
  // the first region after that; room at last in the other region.
  World world({.room = {{"us-east-1a", 0}, {"us-east-1b", 2}, {"eu-west-1a", 9}},
               .quota = {{"eu-west-1", 9}},
               .appear_ms = 2000});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(2, 1);
  ASSERT_TRUE(provider.Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_EQ(machines->front().place.zone, "eu-west-1a");
  ASSERT_THAT(world.said, SizeIs(2));
  EXPECT_THAT(world.said[0], AllOf(HasSubstr("us-east-1a: "), HasSubstr("InsufficientInstance")));
  EXPECT_THAT(world.said[1], HasSubstr("us-east-1b: "));
  // The master of the half gang was gone before the next place was asked.
  EXPECT_EQ(world.cloud.most(), 4);
}

TEST_F(NodeSetTest, ARegionWithoutQuotaIsLeftAtOnce) {
  World world({.room = {{"us-east-1a", 9}, {"us-east-1b", 9}, {"eu-west-1a", 9}},
               .quota = {{"us-east-1", 0}}});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(1, 0);
  ASSERT_TRUE(provider.Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_THAT(world.said, ElementsAre(AllOf(HasSubstr("us-east-1a"), HasSubstr("VcpuLimitExceeded"),
                                            HasSubstr("request-service-quota-increase"))));
}

TEST_F(NodeSetTest, WhereNobodyHasRoomEverythingIsGoneWithinAQuarterOfAMinute) {
  World world({.room = {{"us-east-1a", 2}}, .appear_ms = 3000});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(4, 0);
  ASSERT_TRUE(provider.Check(order).ok());
  const int64_t began = world.now_ms;
  {
    const auto journal = Journal(order);
    NodeSet set(provider, *journal, world.patience, world.Listen());
    const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
    EXPECT_EQ(machines.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(machines.status().message()), HasSubstr("no place has the machines"));
    EXPECT_EQ(world.cloud.made(), 1);
    EXPECT_EQ(world.cloud.Alive(world.now_ms), 0);
    EXPECT_LE(world.now_ms - began, 15'000);
  }
  EXPECT_THAT(Journals(), IsEmpty());
}

TEST_F(NodeSetTest, ACallThatIsRepeatedMakesNoMachineTwice) {
  World world({.seed = 3, .room = {{"us-east-1a", 9}}, .throttled = 0.3, .lost = 0.3});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(4, 2);
  while (!provider.Check(order).ok()) {
  }
  const auto journal = Journal(order);
  NodeSet set(provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_EQ(world.cloud.made(), 7);
  EXPECT_GT(std::ranges::count(world.cloud.asked, "run-instances"), 4) << "nothing was repeated";
}

TEST_F(NodeSetTest, AMachineThatIsTakenAwayAgainSendsAllToTheNextPlace) {
  int moved = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world({.seed = seed,
                 .room = {{"us-east-1a", 9}, {"us-east-1b", 9}, {"eu-west-1a", 9}},
                 .boot_ms = 5000,
                 .taken = 0.1});
    AwsProvider provider = world.Provider();
    const MachineOrder order = Order(2, 0);
    ASSERT_TRUE(provider.Check(order).ok());
    const auto journal = Journal(order);
    NodeSet set(provider, *journal, world.patience, world.Listen());
    const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
    ASSERT_TRUE(machines.ok()) << machines.status();
    EXPECT_THAT(*machines, SizeIs(3));
    EXPECT_LE(world.cloud.most(), 3) << "two sets at once";
    if (world.said.empty()) continue;
    ++moved;
    EXPECT_THAT(world.said[0],
                AllOf(HasSubstr("was taken away"), HasSubstr("SpotInstanceTermination")));
    EXPECT_NE(machines->front().place.zone, "us-east-1a");
  }
  EXPECT_GT(moved, 0);
}

TEST_F(NodeSetTest, AJobOfThisNameElsewhereIsLeftAlone) {
  World world({.room = {{"us-east-1a", 9}}});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(1, 0);
  ASSERT_TRUE(provider.Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(provider, *journal, world.patience, world.Listen());
  ASSERT_TRUE(set.Create({.order = order, .max_wait_ms = 600'000}).ok());
  {
    const TemporaryFolder other_host;
    const MachineOrder same = Order(1, 0, "mu2");
    const auto second = MachineJournal::Begin(other_host.path(), Head(same), 0);
    NodeSet other(provider, **second, world.patience, world.Listen());
    const auto refused = other.Create({.order = same, .max_wait_ms = 600'000});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.status().message()),
                AllOf(HasSubstr("me@here"), HasSubstr("--job-id")));
  }
  EXPECT_EQ(world.cloud.Alive(world.now_ms), 2);
}

TEST_F(NodeSetTest, TheUserMayHaveEnoughOfWaiting) {
  World world({.room = {{"us-east-1a", 9}}, .boot_ms = 200'000});
  AwsProvider provider = world.Provider();
  const MachineOrder order = Order(4, 0);
  ASSERT_TRUE(provider.Check(order).ok());
  world.interrupt_ms = world.now_ms + 20'000;
  const auto journal = Journal(order);
  NodeSet set(provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_THAT(*machines, IsEmpty());
  EXPECT_EQ(world.cloud.Alive(world.now_ms), 0);
}

// ---- kill -9 at any moment
// -------------------------------------------------------------------------

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

[[noreturn]] void BeLauncher(int fd, const std::string& folder, const MachineOrder& order,
                             int64_t training_ms) {
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
  AwsProvider provider(TwoRegions(), "key", tools, patience, nullptr);
  if (!provider.Check(order).ok()) _exit(3);
  const auto journal = MachineJournal::Begin(folder, Head(order), patience.now_ms());
  if (!journal.ok()) _exit(4);
  NodeSet set(provider, **journal, patience, [](const std::string&) {});
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  if (!machines.ok()) _exit(5);
  if (machines->empty()) _exit(6);
  (void)patience.pause(training_ms);
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

TEST_F(NodeSetTest, NothingIsLeftOfAThousandLaunchersThatAreKilled) {
  constexpr int kRounds = 1000;
  int killed = 0, ended_well = 0, collected = 0;
  for (uint64_t seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const auto up_to = [&](int64_t most) {
      return std::uniform_int_distribution<int64_t>(0, most)(random);
    };
    const bool kind = up_to(2) == 0;
    FakeEc2Options options{.seed = seed, .appear_ms = up_to(5000), .boot_ms = up_to(40'000)};
    for (const char* zone : {"us-east-1a", "us-east-1b", "eu-west-1a"}) {
      options.room[zone] = kind ? 9 : up_to(9);
    }
    if (!kind) {
      options.throttled = 0.1;
      options.lost = 0.1;
      options.taken = 0.05;
      if (up_to(3) == 0) options.quota["us-east-1"] = up_to(4);
    }
    World world(options);
    if (up_to(5) == 0) world.interrupt_ms = world.now_ms + up_to(60'000);
    const MachineOrder order = Order(up_to(4), up_to(2));
    int64_t total = 0;
    for (const MachineGroup& group : order.groups) total += group.count;
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    const int64_t training_ms = up_to(100'000);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      close(fds[0]);
      BeLauncher(fds[1], folder_.path(), order, training_ms);
    }
    close(fds[1]);
    std::deque<Late> late;
    Serve(fds[0], pid, static_cast<int>(up_to(70)), random, &world, &late);
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
        (void)world.cloud.Run(late.front().words, world.now_ms);
        late.pop_front();
      }
      return true;
    };
    (void)world.patience.pause(up_to(4000));
    for (int tries = 0; tries < 20 && !Journals().empty(); ++tries) {
      const auto journal = MachineJournal::TakeOver(folder_.path(), "job");
      ASSERT_TRUE(journal.ok()) << journal.status();
      AwsProvider provider = world.Provider();
      collected += GiveBackMachines(provider, **journal, world.patience).ok() ? 1 : 0;
    }
    EXPECT_THAT(Journals(), IsEmpty());
    (void)world.patience.pause(60'000);
    ASSERT_EQ(world.cloud.Alive(world.now_ms), 0) << "of " << world.cloud.made();
    EXPECT_LE(world.cloud.most(), total) << "two sets at once";
  }
  // The rounds were of all kinds.
  EXPECT_GT(killed, kRounds / 3);
  EXPECT_GT(ended_well, kRounds / 20);
  EXPECT_GT(collected, kRounds / 4);
  std::printf("%d killed, %d ended well, %d collected\n", killed, ended_well, collected);
}

}  // namespace
}  // namespace muster::cluster
