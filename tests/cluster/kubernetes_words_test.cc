// What Kubernetes is asked, and what it says. tests/cluster/kubernetes/ has whole manifests.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "cluster/kubectl.h"
#include "cluster/kubernetes.h"
#include "cluster/kubernetes_answers.h"
#include "cluster/kubernetes_manifest.h"
#include "cluster/kubernetes_room.h"
#include "tests/harness/golden.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::SizeIs;

MachineOrder Order() {
  MachineOrder order;
  order.job_id = "speech_1";
  order.run = "r1";
  order.owner = "ada@desk";
  order.lifetime_s = 4500;
  order.groups = {
      {.role = Role::kMaster, .count = 1, .type = "standard", .vcpus = 4, .memory_gb = 15},
      {.role = Role::kWorker, .count = 3, .type = "gpu", .vcpus = 8, .memory_gb = 30, .gpus = 2}};
  order.groups[1].image = "registry/own:1";
  return order;
}

Kubernetes Settings() {
  Kubernetes kubernetes;
  (*kubernetes.mutable_node_selector())["pool"] = "train";
  Toleration& toleration = *kubernetes.add_tolerations();
  toleration.set_key("dedicated");
  toleration.set_value("training");
  toleration.set_effect("NoSchedule");
  return kubernetes;
}

TEST(Kubernetes, EachRoleIsAServiceAndAnIndexedJob) {
  ExpectGolden("tests/cluster/kubernetes/jobs.json",
               Manifests(Order(), Settings(), /*has_jobsets=*/false));
}

TEST(Kubernetes, WithJobSetAllRolesAreOneObject) {
  ExpectGolden("tests/cluster/kubernetes/jobset.json",
               Manifests(Order(), Settings(), /*has_jobsets=*/true));
}

TEST(Kubernetes, NamesAreDnsLabelsAndOneJobsAlone) {
  EXPECT_EQ(JobLabel("speech-1"), "speech-1");
  const std::string long_id(200, 'x');
  std::vector<std::string> labels;
  for (const std::string& id :
       {std::string("speech_1"), std::string("speech.1"), std::string("Speech-1"), std::string("-"),
        std::string("7"), std::string("\xc3\xa9t\xc3\xa9"), long_id, long_id + "y"}) {
    const std::string label = JobLabel(id);
    EXPECT_THAT(label, MatchesRegex("[a-z]([-a-z0-9]*[a-z0-9])?")) << id;
    EXPECT_LE(label.size(), 63u);
    EXPECT_THAT(labels, Not(::testing::Contains(label))) << id;
    labels.push_back(label);
    // With role, index and five random characters a pod's name, which is its host's name, too.
    MachineOrder order = Order();
    order.job_id = id;
    EXPECT_LE((OrderName(order) + "-worker-0-9999-abcde").size(), 63u);
    EXPECT_EQ(OrderName(order), OrderName(order));
    const std::string first = OrderName(order);
    order.attempt = 1;
    EXPECT_NE(OrderName(order), first);
    order.attempt = 0;
    order.run = "r2";
    EXPECT_NE(OrderName(order), first);
  }
}

TEST(Kubernetes, ImagesAreTheRolesTheClustersOrDebian) {
  MachineOrder order = Order();
  order.groups.resize(1);
  const auto has = [&](const Kubernetes& kubernetes, const std::string& image) {
    EXPECT_THAT(Manifests(order, kubernetes, false), HasSubstr("\"image\":\"" + image + "\""));
  };
  Kubernetes kubernetes;
  has(kubernetes, "debian:12-slim");
  kubernetes.set_image("own");
  has(kubernetes, "own");
  order.groups[0].image = "jobs";
  has(kubernetes, "jobs");
}

// A pod of worker `index`, with more of its status.
std::string Pod(int index, const std::string& status, const std::string& meta = "") {
  return R"({"kind": "Pod", "metadata": {"name": "p)" + std::to_string(index) +
         R"(", "labels": {"muster-job": "j", "muster-role": "worker", "muster-attempt": "2",
         "batch.kubernetes.io/job-name": "j-worker"}, "annotations": {"muster/job-id": "J",
         "muster/owner": "ada@desk", "batch.kubernetes.io/job-completion-index": ")" +
         std::to_string(index) + "\"}" + meta + R"(}, "status": )" + status + "}";
}

std::string Items(const std::string& items) {
  return R"({"apiVersion": "v1", "kind": "List", "items": [)" + items + "]}";
}

TEST(Kubernetes, PodsAreMachinesWithTheReasonWhyTheyWait) {
  const auto found = ParsePods(Items(
      Pod(0, R"({"phase": "Running", "podIP": "10.0.0.7"})") + "," +
      Pod(1, R"({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes are available"}]})") +
      "," + Pod(2, R"({"phase": "Pending", "containerStatuses": [{"state": {"waiting":
                {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}}]})") +
      "," + Pod(3, R"({"phase": "Failed", "containerStatuses": [{"state": {"terminated":
                {"reason": "OOMKilled", "exitCode": 137}}}]})") +
      "," +
      Pod(4, R"({"phase": "Running", "podIP": "10.0.0.8"})",
          R"(, "deletionTimestamp": "2026-11-22T09:00:00Z")") +
      "," + Pod(5, R"({"phase": "Pending", "containerStatuses": [{"state": {"waiting":
                {"reason": "ContainerCreating"}}}]})") +
      R"(, {"kind": "Pod", "metadata": {"name": "stranger"}},
          {"kind": "Job", "metadata": {"name": "j-worker", "labels": {"muster-job": "j",
           "muster-role": "worker", "muster-attempt": "2"}}, "spec": {"completions": 7},
           "status": {"active": 6}})"));
  ASSERT_TRUE(found.ok()) << found.status();
  const std::vector<Machine>& machines = found->machines;
  ASSERT_THAT(machines, SizeIs(7));
  EXPECT_EQ(machines[0].id, "p0");
  EXPECT_EQ(machines[0].job_id, "J");
  EXPECT_EQ(machines[0].owner, "ada@desk");
  EXPECT_EQ(machines[0].attempt, 2);
  EXPECT_EQ(machines[0].state, MachineState::kRunning);
  EXPECT_EQ(machines[0].address, "10.0.0.7");
  EXPECT_EQ(machines[1].reason, "0/3 nodes are available");
  EXPECT_EQ(machines[1].state, MachineState::kPending);
  EXPECT_EQ(machines[2].reason, "ImagePullBackOff: Back-off pulling");
  EXPECT_EQ(machines[3].reason, "OOMKilled");
  EXPECT_EQ(machines[3].state, MachineState::kGone);
  EXPECT_EQ(machines[4].state, MachineState::kGone);
  EXPECT_EQ(machines[5].reason, "");
  // The seventh was never made.
  EXPECT_EQ(machines[6].state, MachineState::kPending);
  EXPECT_EQ(machines[6].index, 6);
  EXPECT_EQ(found->unmade, (std::map<size_t, std::string>{{6, "j-worker"}}));
  EXPECT_EQ(ParseRefusals(Items(R"({"message": "Error creating: pods \"x\" is forbidden",
                "involvedObject": {"kind": "Job", "name": "j-worker"}})")),
            (std::map<std::string, std::string>{{"j-worker", "pods \"x\" is forbidden"}}));
}

TEST(Kubernetes, AJobThatHasEndedLacksNothing) {
  const auto found = ParsePods(Items(
      R"({"kind": "Job", "metadata": {"name": "j", "labels": {"muster-job": "j",
          "muster-role": "ps", "muster-attempt": "0"}}, "spec": {"completions": 3},
          "status": {"conditions": [{"type": "Failed", "status": "True"}]}})"));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->machines, SizeIs(0));
}

TEST(Kubernetes, AnswersThatAreNoneAreRefused) {
  for (const std::string text :
       {"", "[]", "{}", "no", R"({"items": 3})", R"({"items": [3]})",
        R"({"items": [{"kind": "Pod"}]})", R"({"items": [{"kind": "Pod", "metadata": []}]})"}) {
    EXPECT_FALSE(ParsePods(text).ok()) << text;
  }
  const std::string whole = Items(Pod(0, R"({"phase": "Running", "podIP": "10.0.0.7"})"));
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    std::string text = whole;
    for (int k = 0; k < 3; ++k) text[random() % text.size()] = static_cast<char>(random());
    if (random() % 4 == 0) text.resize(random() % text.size());
    // Whatever it says, it says it or it fails.
    const auto found = ParsePods(text);
    if (found.ok()) {
      EXPECT_LE(found->machines.size(), 1u) << text;
    }
    (void)ParseRefusals(text);
    (void)ParseQuotas(text);
    (void)ParseNodes(text);
  }
  const auto many = ParsePods(Items(
      R"({"kind": "Job", "metadata": {"name": "j", "labels": {"muster-job": "j", "muster-role":
          "ps", "muster-attempt": "0"}}, "spec": {"completions": 9223372036854775807}})"));
  ASSERT_TRUE(many.ok());
  EXPECT_LE(many->machines.size(), 100'000u);
}

TEST(Kubernetes, Quantities) {
  EXPECT_EQ(ParseQuantity("4"), 4);
  EXPECT_EQ(ParseQuantity("500m"), 0.5);
  EXPECT_EQ(ParseQuantity("16Gi"), 16.0 * 1024 * 1024 * 1024);
  EXPECT_EQ(ParseQuantity("1e3"), 1000);
  EXPECT_EQ(ParseQuantity("2k"), 2000);
  for (const char* text : {"", "Gi", "4 ", "four", "0x10", "inf", "nan", "1e999", "4Gii"}) {
    EXPECT_EQ(ParseQuantity(text), std::nullopt) << text;
  }
}

TEST(Kubernetes, QuotasSayWhatTheyHaveAndWhatIsNeeded) {
  const auto quotas = ParseQuotas(Items(
      R"({"metadata": {"name": "team"}, "status": {"hard": {"requests.cpu": "40", "pods": "5",
          "requests.memory": "200Gi", "secrets": "1"}, "used": {"requests.cpu": "8",
          "pods": "1"}}})"));
  ASSERT_TRUE(quotas.ok()) << quotas.status();
  const auto lines = CheckQuotas(Order(), *quotas);
  ASSERT_TRUE(lines.ok()) << lines.status();
  EXPECT_THAT(*lines,
              ::testing::UnorderedElementsAre(
                  "quota team: 8 of 40 requests.cpu are in use, and the job needs 28",
                  "quota team: 1 of 5 pods are in use, and the job needs 4",
                  "quota team: 0 GiB of 200 GiB requests.memory are in use, and the job needs 105 "
                  "GiB"));
  MachineOrder more = Order();
  more.groups[1].count = 4;
  const auto refused = CheckQuotas(more, *quotas);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("quota team: 8 of 40 requests.cpu are in use, and the job needs 36: ask"));
}

TEST(Kubernetes, AMachineThatFitsOnNoNodeIsRefused) {
  const auto nodes = ParseNodes(Items(
      R"({"metadata": {"labels": {"pool": "train"}}, "spec": {}, "status": {"allocatable":
          {"cpu": "15900m", "memory": "60Gi", "nvidia.com/gpu": "2"}}},
         {"metadata": {"labels": {"pool": "train"}}, "spec": {"unschedulable": true}, "status":
          {"allocatable": {"cpu": "96", "memory": "600Gi", "nvidia.com/gpu": "8"}}},
         {"metadata": {}, "status": {"allocatable": {"cpu": "96", "memory": "600Gi"}}})"));
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  EXPECT_TRUE(CheckNodes(Order(), Settings(), *nodes).ok());
  MachineOrder larger = Order();
  larger.groups[1].vcpus = 16;
  EXPECT_THAT(std::string(CheckNodes(larger, Settings(), *nodes).message()),
              AllOf(HasSubstr("no node of the cluster gives a worker the 16 vCPUs and 30 GiB and 2 "
                              "GPUs of its machine type gpu"),
                    HasSubstr("the largest has 15.9 vCPUs"), HasSubstr("autoscaled: true")));
  Kubernetes elsewhere;
  (*elsewhere.mutable_node_selector())["pool"] = "none";
  EXPECT_THAT(std::string(CheckNodes(Order(), elsewhere, *nodes).message()),
              HasSubstr("nodeSelector"));
}

TEST(Kubernetes, ComplaintsBecomeOneLine) {
  const auto explain = [](const std::string& text) {
    const absl::Status status = ExplainKubectl(text);
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
    return status;
  };
  const absl::Status refused = explain(
      "E1122 08:46:45.321511    3817 memcache.go:265] \"Unhandled Error\" err=\"x\"\n"
      "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or "
      "port?\n");
  EXPECT_TRUE(absl::IsUnavailable(refused));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("The connection to the server 127.0.0.1:1 was refused"));
  EXPECT_TRUE(absl::IsUnauthenticated(
      explain("error: You must be logged in to the server (Unauthorized)\n")));
  EXPECT_TRUE(absl::IsNotFound(
      explain("Error in configuration: context was not found for specified context: x\n")));
  EXPECT_TRUE(absl::IsOutOfRange(
      explain("Error from server (Forbidden): error when creating \"STDIN\": jobs.batch \"j\" is "
              "forbidden: exceeded quota: team\n")));
  EXPECT_TRUE(absl::IsPermissionDenied(explain(
      "Error from server (Forbidden): nodes is forbidden: User \"u\" cannot list resource\n")));
  EXPECT_THAT(std::string(explain("command terminated with exit code 137\n").message()),
              "the connection ended");
}

TEST(KubernetesWords, ATerminalIsAShellACommandOrThePodsPorts) {
  Kubernetes settings;
  settings.set_namespace_("train");
  const KubernetesProvider provider(settings, nullptr, {}, "");
  Machine pod;
  pod.id = "muster-worker-1";
  const auto said = [&](const TerminalWish& wish) {
    const auto words = provider.Terminal(pod, wish);
    return words.ok() ? fmt::format("{}", fmt::join(*words, " "))
                      : std::string(words.status().message());
  };
  EXPECT_THAT(said({.types = true}), EndsWith(" exec -it muster-worker-1 -c muster -- /bin/sh"));
  EXPECT_THAT(said({.command = {"ls", "a b"}}),
              EndsWith(" exec -i muster-worker-1 -c muster -- ls a b"));
  EXPECT_THAT(said({.forwards = {"9090:127.0.0.1:40123", "1:localhost:2"}}),
              EndsWith(" port-forward muster-worker-1 9090:40123 1:2"));
  EXPECT_THAT(said({.forwards = {"1:localhost:2"}, .command = {"ls"}}), HasSubstr("twice"));
  for (const char* wrong : {"9090", "9090:other:1", "::", "1:2:3:4"}) {
    EXPECT_THAT(said({.forwards = {wrong}}), HasSubstr("write -L PORT:127.0.0.1:PORT")) << wrong;
  }
}

}  // namespace
}  // namespace muster::cluster
