#include "master/trace_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;

class TracePartsTest : public ::testing::Test {
 protected:
  TracePartsTest() {
    training_.mutable_trace()->set_from_step(5);
    training_.mutable_trace()->set_steps(2);
  }
  static rpc::Hello Role(const std::string& role, int index) {
    rpc::Hello hello;
    hello.role = role;
    hello.index = index;
    return hello;
  }
  // Leaves the part of a role that did `step`.
  void Leave(const rpc::Hello& self, int64_t step) {
    const auto trace = MakeTrace(training_, self, 4711, "a");
    { const TraceSpan span(TraceThread(trace.get(), "row"), "sum", step, 0); }
    ASSERT_TRUE(WriteTracePart(*trace, self, parts_).ok());
  }
  std::vector<std::string> Join() {
    std::vector<std::string> warnings;
    EXPECT_TRUE(JoinTraceParts(parts_, file_, &warnings).ok());
    return warnings;
  }
  // "pid: role" of the joined trace.
  std::vector<std::string> Roles() {
    std::vector<std::string> roles;
    const Json trace = Json::parse(*ReadFile(file_));
    for (const Json& event : trace["traceEvents"]) {
      if (event["name"] == "process_name") {
        roles.push_back(event["pid"].dump() + ": " + event["args"]["name"].get<std::string>());
      }
    }
    return roles;
  }

  harness::TemporaryFolder folder_;
  const std::string parts_ = folder_.path() + "/trace", file_ = folder_.path() + "/trace.json";
  Training training_;
};

TEST_F(TracePartsTest, WhereNobodyAsksThereIsNoTrace) {
  EXPECT_EQ(MakeTrace(Training(), Role("ps", 0), 1, "a"), nullptr);
}

TEST_F(TracePartsTest, PartsOfAllRolesAreJoinedAndRemoved) {
  Leave(Role("chief", 0), 5);
  Leave(Role("worker", 0), 6);
  Leave(Role("worker", 1), 5);
  Leave(Role("ps", 0), 5);
  Leave(Role("ps", 1), 5);
  EXPECT_THAT(Join(), IsEmpty());
  EXPECT_THAT(Roles(), UnorderedElementsAre("1: chief-0", "2: worker-0", "3: worker-1",
                                            "1000000: ps-0", "1000001: ps-1"));
  EXPECT_FALSE(std::filesystem::exists(parts_));
}

TEST_F(TracePartsTest, ARoleThatDidNoneOfTheStepsLeavesNoPart) {
  Leave(Role("chief", 0), 4);
  EXPECT_FALSE(std::filesystem::exists(parts_));
}

TEST_F(TracePartsTest, WithoutPartsAnEarlierTraceStays) {
  EXPECT_THAT(Join(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(file_));
  Leave(Role("chief", 0), 5);
  Join();
  Join();
  EXPECT_THAT(Roles(), ElementsAre("1: chief-0"));
}

TEST_F(TracePartsTest, WhatIsNoPartIsLeftOutAndNamed) {
  Leave(Role("chief", 0), 5);
  Leave(Role("ps", 0), 5);
  const std::string part = *ReadFile(parts_ + "/ps-0.json");
  for (const std::string& text : {std::string(), part.substr(0, part.size() / 2), std::string("{}"),
                                  std::string("[]"), std::string("[1,")}) {
    Leave(Role("chief", 0), 5);
    std::filesystem::create_directories(parts_);
    ASSERT_TRUE(WriteFileAtomically(parts_ + "/ps-0.json", text).ok());
    ASSERT_TRUE(WriteFileAtomically(parts_ + "/ps-1.json.tmp.1.2", part).ok());
    EXPECT_THAT(Join(), ElementsAre(parts_ + "/ps-0.json is no trace")) << text;
    EXPECT_THAT(Roles(), ElementsAre("1: chief-0")) << text;
    EXPECT_FALSE(std::filesystem::exists(parts_));
  }
}

TEST_F(TracePartsTest, APartThatCannotBeWrittenSaysWhere) {
  ASSERT_TRUE(WriteFileAtomically(parts_, "a file where the folder belongs").ok());
  const auto trace = MakeTrace(training_, Role("ps", 0), 1, "a");
  { const TraceSpan span(TraceThread(trace.get(), "row"), "sum", 5, 0); }
  EXPECT_THAT(std::string(WriteTracePart(*trace, Role("ps", 0), parts_).message()),
              HasSubstr(parts_ + "/ps-0.json"));
}

}  // namespace
}  // namespace muster::master
