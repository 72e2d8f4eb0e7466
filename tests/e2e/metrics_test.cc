// What a running job shows of itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/e2e/programs.h"
#include "tests/harness/http_get.h"

namespace muster::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

TEST(Metrics, EveryRoleOfARunningJobShowsThemAtTheAddressInItsState) {
  const std::string folder = NewFolder("metrics"), job = folder + "/job";
  Running run(LaunchWords(folder, {.workers = 1, .servers = 1, .steps = 1'000'000}));
  ASSERT_TRUE(run.WaitFor("loss ")) << run.out();
  const master::JobState state = StateOf(job);
  ASSERT_THAT(state.replicas, SizeIs(3));
  ASSERT_THAT(state.replicas[0].metrics, SizeIs(2)) << "coordinator and chief";
  const auto page = [&](size_t replica, size_t process) {
    return harness::HttpGet(state.replicas[replica].metrics[process], "/metrics");
  };
  EXPECT_THAT(page(0, 0), HasSubstr("muster_role_info{role=\"master\",index=\"0\"} 1\n"));
  for (const std::string& trainer : {page(0, 1), page(1, 0)}) {
    EXPECT_THAT(trainer, HasSubstr("\nmuster_trainer_steps_total "));
    EXPECT_THAT(trainer, Not(HasSubstr("\nmuster_trainer_steps_total 0\n")));
    for (const char* phase : {"data", "compute", "push", "wait", "pull"}) {
      EXPECT_THAT(trainer, HasSubstr(std::string("muster_trainer_step_seconds_total{phase=\"") +
                                     phase + "\"} "));
    }
    EXPECT_THAT(trainer, Not(HasSubstr("} -"))) << "no time runs backwards";
  }
  const std::string server = page(2, 0);
  EXPECT_THAT(server, HasSubstr("muster_role_info{role=\"ps\",index=\"0\"} 1\n"));
  EXPECT_THAT(server, Not(HasSubstr("\nmuster_server_pushes_total 0\n")));
  EXPECT_THAT(server, HasSubstr("\nmuster_server_pushes_total "));
  EXPECT_THAT(server, HasSubstr("\nmuster_server_refused_total 0\n"));
  EXPECT_THAT(server, HasSubstr("\nmuster_server_staleness_steps_bucket{le=\"+Inf\"} "));
  run.Signal(SIGINT);
  run.Wait();
  EXPECT_EQ(harness::HttpGet(state.replicas[2].metrics[0], "/metrics"), "");
}

}  // namespace
}  // namespace muster::e2e
