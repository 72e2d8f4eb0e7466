// The trace of some steps that a job asks for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;

using Phases = std::map<int64_t, std::set<std::string>>;  // by step

// What trace.json shows of each role.
std::map<std::string, Phases> PhasesOf(const std::string& job) {
  const Json trace = Json::parse(Contents(job + "/trace.json"), nullptr, false);
  EXPECT_TRUE(trace.is_object());
  std::map<int64_t, std::string> roles;
  std::map<std::string, Phases> phases;
  for (const Json& event : trace["traceEvents"]) {
    if (event["name"] == "process_name") roles[event["pid"]] = event["args"]["name"];
    if (event["ph"] != "X") continue;
    EXPECT_GE(event["dur"].get<double>(), 0);
    phases[roles[event["pid"]]][event["args"]["step"]].insert(event["name"]);
  }
  return phases;
}

// Events of each row of each role that overlap and do not lie within one another.
std::vector<std::string> Overlaps(const std::string& job) {
  constexpr double kRounding = 0.002;  // times are rounded to a nanosecond
  std::vector<std::string> overlaps;
  std::map<std::pair<int64_t, int64_t>, std::vector<std::pair<double, std::string>>> open;
  const Json trace = Json::parse(Contents(job + "/trace.json"));
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    const double begin = event["ts"], end = begin + event["dur"].get<double>();
    auto& row = open[{event["pid"], event["tid"]}];
    while (!row.empty() && row.back().first <= begin + kRounding) row.pop_back();
    if (!row.empty() && end > row.back().first + kRounding) {
      overlaps.push_back(row.back().second + " and " + event.dump());
    }
    row.emplace_back(end, event.dump());
  }
  return overlaps;
}

const std::set<std::string> kTrainer = {"data", "forward", "backward", "push", "wait", "pull"};
const std::set<std::string> kBspServer = {"sum", "sum and apply", "answer"};

TEST(Trace, ShowsEveryRoleAndPhaseInTheStepsAskedForAndNoOther) {
  const std::string folder = NewFolder("trace"), job = folder + "/job";
  const Ended run = RunToEnd(LaunchWords(
      folder,
      {.workers = 1, .servers = 1, .steps = 30, .training = "trace: {fromStep: 10, steps: 3}"}));
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  const auto all = [](const std::set<std::string>& phases) {
    return UnorderedElementsAre(Pair(10, phases), Pair(11, phases), Pair(12, phases));
  };
  EXPECT_THAT(PhasesOf(job),
              UnorderedElementsAre(Pair("chief-0", all(kTrainer)), Pair("worker-0", all(kTrainer)),
                                   Pair("ps-0", all(kBspServer))));
  EXPECT_THAT(Overlaps(job), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(job + "/trace")) << "the parts are joined";
  EXPECT_THAT(run.out, HasSubstr("\ntrace                " + job + "/trace.json\n"));
  EXPECT_THAT(Contents(job + "/report.html"), HasSubstr("href=\"trace.json\""));
}

TEST(Trace, OfOneProcessHasTrainerAndServer) {
  const std::string folder = NewFolder("trace-basic"), job = folder + "/job";
  const Ended run = RunToEnd(LaunchWords(
      folder,
      {.steps = 20, .training = "consistency: {mode: ASYNC}, trace: {fromStep: 19, steps: 100}"}));
  ASSERT_EQ(run.code, 0) << run.err;
  const std::set<std::string> async_server = {"sum", "apply", "answer"};
  EXPECT_THAT(PhasesOf(job),
              UnorderedElementsAre(Pair("chief-0", UnorderedElementsAre(Pair(19, kTrainer))),
                                   Pair("ps-0", UnorderedElementsAre(Pair(19, async_server)))));
}

TEST(Trace, AKilledRoleTakesOnlyItsOwnPartAlong) {
  const std::string folder = NewFolder("trace-killed"), job = folder + "/job";
  Running run(LaunchWords(folder, {.workers = 2,
                                   .servers = 1,
                                   .steps = 1'000'000,
                                   .training = "trace: {fromStep: 0, steps: 5}"}));
  ASSERT_TRUE(run.WaitFor("validation"));
  kill(RolesOf(job).at("ps-0"), SIGKILL);
  EXPECT_EQ(run.Wait().code, 1);
  const auto phases = PhasesOf(job);
  EXPECT_THAT(phases, Not(Contains(Key("ps-0"))));
  for (const char* role : {"chief-0", "worker-0", "worker-1"}) {
    EXPECT_THAT(phases, Contains(Key(role)));
  }
}

TEST(Trace, WithoutTheFieldThereIsNone) {
  const std::string folder = NewFolder("no-trace"), job = folder + "/job";
  const Ended run = RunToEnd(LaunchWords(folder, {.steps = 5}));
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_FALSE(std::filesystem::exists(job + "/trace.json"));
  EXPECT_THAT(run.out, Not(HasSubstr("\ntrace ")));
}

}  // namespace
}  // namespace muster::e2e
