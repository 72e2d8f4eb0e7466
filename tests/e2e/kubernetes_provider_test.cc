// The provider KUBERNETES over the real kubectl, and pods that run
// (tests/e2e/kubernetes_cluster.h).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include "cluster/kubernetes.h"
#include "cluster/kubernetes_manifest.h"
#include "cluster/node_set.h"
#include "telemetry/time.h"
#include "tests/e2e/kubernetes_cluster.h"
#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

using cluster::Machine;
using cluster::MachineOrder;
using cluster::MachineState;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kPatienceMs = 30'000;

class KubernetesProviderTest : public ::testing::TestWithParam<const char*> {
 protected:
  KubernetesProviderTest() : kubernetes_(NewFolder("kubernetes"), GetParam()) {
    for (char** entry = environ; *entry != nullptr; ++entry) environment_.emplace_back(*entry);
    for (const auto& [name, value] : kubernetes_.environment()) {
      environment_.push_back(name + "=" + value);
    }
    settings_.set_directory(kubernetes_.home());
    order_.job_id = "speech_1";
    order_.run = "r1";
    order_.owner = "ada@desk";
    order_.lifetime_s = 3600;
    order_.groups = {
        {.role = Role::kMaster, .count = 1, .type = "standard", .vcpus = 4, .memory_gb = 15},
        {.role = Role::kWorker, .count = 2, .type = "small", .vcpus = 2, .memory_gb = 4}};
  }
  void SetUp() override {
    if (!kubernetes_.problem().empty()) GTEST_SKIP() << kubernetes_.problem();
  }

  cluster::KubernetesProvider Provider() const {
    return cluster::KubernetesProvider(
        settings_,
        [this](const std::vector<std::string>& words, int64_t timeout_ms,
               const std::string& input) {
          return cluster::RunTool(words, environment_, path_variable_, timeout_ms, input);
        },
        environment_, "b1");
  }
  absl::Status Create() const {
    return Provider().Create(order_, [](const std::string&) { return absl::OkStatus(); });
  }
  std::string Refusal() const { return std::string(Provider().Check(order_).status().message()); }
  // The job's machines, once `done` says so of them.
  std::vector<Machine> Await(const std::function<bool(const std::vector<Machine>&)>& done) const {
    for (int i = 0;; ++i) {
      const auto machines = Provider().List(order_.job_id);
      EXPECT_TRUE(machines.ok()) << machines.status();
      if (!machines.ok() || done(*machines)) return machines.value_or(std::vector<Machine>());
      if (i == 100) {
        ADD_FAILURE() << "waited in vain:\n" << kubernetes_.Kubectl("get jobs,pods -o name");
        return *machines;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  std::vector<Machine> AwaitAll(MachineState state) const {
    return Await([&](const std::vector<Machine>& machines) {
      return machines.size() == 3 &&
             std::all_of(machines.begin(), machines.end(),
                         [&](const Machine& m) { return m.state == state; });
    });
  }
  // Of one that waits for something.
  std::string AwaitReason() const {
    std::string reason;
    Await([&](const std::vector<Machine>& machines) {
      for (const Machine& m : machines) {
        if (m.state == MachineState::kPending && !m.reason.empty()) reason = m.reason;
      }
      return !reason.empty();
    });
    return reason;
  }
  void ExpectGivenBack() const {
    ASSERT_TRUE(Provider().Destroy(order_.job_id).ok());
    for (int i = 0; i < 100 && !kubernetes_.Objects().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(kubernetes_.Objects(), IsEmpty());
  }

  const KubernetesCluster kubernetes_;
  std::vector<std::string> environment_;
  std::string path_variable_ = std::getenv("PATH");
  Kubernetes settings_;
  MachineOrder order_;
};

TEST_P(KubernetesProviderTest, MachinesAreThereAndReachedAndGivenBack) {
  const auto checked = Provider().Check(order_);
  ASSERT_TRUE(checked.ok()) << checked.status();
  std::string asked;
  const absl::Status made = Provider().Create(order_, [&](const std::string& name) {
    asked = name;
    return absl::OkStatus();
  });
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_EQ(asked, cluster::OrderName(order_));
  const std::vector<Machine> machines = AwaitAll(MachineState::kRunning);
  ASSERT_THAT(machines, SizeIs(3));
  std::vector<std::string> addresses;
  for (const Machine& machine : machines) {
    EXPECT_EQ(machine.job_id, "speech_1");
    EXPECT_EQ(machine.owner, "ada@desk");
    EXPECT_THAT(addresses, Not(::testing::Contains(machine.address)));
    addresses.push_back(machine.address);
    auto host = Provider().Reach(machine);
    ASSERT_TRUE(host.ok()) << host.status();
    EXPECT_EQ(host->address, machine.address);
    // Input, output and exit code come through; it is another machine.
    host->link.argv.back() = "cat; hostname -I; exit 3";
    const auto said =
        cluster::RunTool(host->link.argv, environment_, path_variable_, kPatienceMs, "hello\n");
    ASSERT_TRUE(said.ok()) << said.status();
    EXPECT_THAT(said->out, AllOf(HasSubstr("hello\n"), HasSubstr(machine.address))) << said->err;
    EXPECT_EQ(said->code, 3);
  }
  // Other jobs' machines are not this one's.
  EXPECT_THAT(*Provider().List("speech_2"), IsEmpty());
  EXPECT_THAT(*Provider().List(""), SizeIs(3));
  ExpectGivenBack();
  EXPECT_TRUE(Provider().Destroy(order_.job_id).ok()) << "where there is nothing";
}

TEST_P(KubernetesProviderTest, AnAnswerThatIsLostAsksForNothingTwice) {
  kubernetes_.Change(R"({"drop": ")" + std::string(*GetParam() ? "jobsets" : "jobs") + "\"}");
  const absl::Status made = Create();
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_THAT(kubernetes_.Log(), HasSubstr(R"("drop": "")")) << "one was lost";
  // So does another launcher that does not know whether it was asked for.
  ASSERT_TRUE(Create().ok());
  EXPECT_THAT(AwaitAll(MachineState::kRunning), SizeIs(3));
  ExpectGivenBack();
}

TEST_P(KubernetesProviderTest, ItEndsThemItselfAtTheirDeadline) {
  order_.lifetime_s = 5;
  ASSERT_TRUE(Create().ok());
  AwaitAll(MachineState::kRunning);
  const std::vector<Machine> gone = Await([](const std::vector<Machine>& machines) {
    return std::all_of(machines.begin(), machines.end(),
                       [](const Machine& m) { return m.state == MachineState::kGone; });
  });
  EXPECT_THAT(
      gone, ::testing::Contains(::testing::Field(&Machine::reason, HasSubstr("DeadlineExceeded"))));
  ExpectGivenBack();
}

TEST_P(KubernetesProviderTest, WhatWaitsSaysWhy) {
  order_.groups[1].count = 9;
  ASSERT_TRUE(Create().ok());
  EXPECT_THAT(AwaitReason(), HasSubstr("nodes are available: 1 Insufficient cpu"));
  ExpectGivenBack();
  order_.groups[1].count = 2;
  order_.groups[1].image = "nowhere/nothing:1";
  kubernetes_.Change(R"({"bad_images": ["nowhere/nothing:1"]})");
  ASSERT_TRUE(Create().ok());
  EXPECT_THAT(AwaitReason(), HasSubstr("ImagePullBackOff: Back-off pulling image"));
  ExpectGivenBack();
}

TEST_P(KubernetesProviderTest, AQuotaThatLetsHalfOfThemInSaysSo) {
  kubernetes_.Change(R"({"quota": {"requests.cpu": "6"}})");
  EXPECT_THAT(Refusal(), HasSubstr("quota team: 0 of 6 requests.cpu are in use, and the job needs "
                                   "8: ask who runs the cluster for more"));
  ASSERT_TRUE(Create().ok());
  EXPECT_THAT(AwaitReason(), HasSubstr("exceeded quota: team"));
  EXPECT_THAT(Await([](const auto& machines) { return machines.size() == 3; }), SizeIs(3))
      << "the one that is not made is listed, too";
  ExpectGivenBack();
}

// All of them or none, and no longer than the user waits.
TEST_P(KubernetesProviderTest, AGangThatIsNotWholeInTimeIsGivenUp) {
  kubernetes_.Change(R"({"quota": {"requests.cpu": "6"}})");
  auto provider = Provider();
  const auto journal = cluster::MachineJournal::Begin(
      NewFolder("journals"), {.job_id = order_.job_id, .run = order_.run}, UnixMillis());
  ASSERT_TRUE(journal.ok()) << journal.status();
  const cluster::Patience patience = {.now_ms = UnixMillis, .pause = [](int64_t ms) {
                                        std::this_thread::sleep_for(std::chrono::milliseconds(ms));
                                        return true;
                                      }};
  std::vector<std::string> said;
  cluster::NodeSet set(provider, **journal, patience,
                       [&](const std::string& line) { said.push_back(line); });
  const auto machines = set.Create({.order = order_, .max_wait_ms = 3'000});
  EXPECT_THAT(std::string(machines.status().message()), HasSubstr("exceeded quota: team"));
  EXPECT_THAT(said, ::testing::Contains(HasSubstr("exceeded quota: team")));
  EXPECT_THAT(kubernetes_.Objects(), IsEmpty());
}

TEST_P(KubernetesProviderTest, WhatCannotBeIsRefusedInOneLine) {
  order_.groups[1].vcpus = 96;
  EXPECT_THAT(Refusal(), HasSubstr("no node of the cluster gives a worker the 96 vCPUs"));
  settings_.set_autoscaled(true);
  EXPECT_EQ(Refusal(), "");
  settings_.set_context("nowhere");
  EXPECT_THAT(Refusal(), HasSubstr("cluster.kubernetes.context"));
  settings_.clear_context();
  kubernetes_.Change(R"({"allow": false})");
  EXPECT_THAT(Refusal(), HasSubstr("does not let you create jobs.batch"));
  kubernetes_.Change(R"({"logged_in": false})");
  EXPECT_THAT(Refusal(), HasSubstr("log in to the cluster"));
  // A port at which nothing listens.
  const std::string config = NewFolder("down") + "/config";
  WriteText(config, R"(apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
)");
  environment_.push_back("KUBECONFIG=" + config);
  environment_.erase(std::remove(environment_.begin(), environment_.end(),
                                 "KUBECONFIG=" + kubernetes_.environment().at("KUBECONFIG")),
                     environment_.end());
  EXPECT_THAT(Refusal(), HasSubstr("127.0.0.1:1 was refused"));
  path_variable_ = "/nowhere";
  EXPECT_THAT(Refusal(), HasSubstr("there is no program kubectl in PATH"));
}

// As in api_server.py's options.
INSTANTIATE_TEST_SUITE_P(Clusters, KubernetesProviderTest, ::testing::Values("", "--jobset"),
                         [](const auto& info) { return *info.param ? "JobSet" : "Plain"; });

}  // namespace
}  // namespace muster::e2e
