#include "master/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "master/report_chart.h"
#include "telemetry/file.h"

namespace muster::master {
namespace {

// Without printing the whole page when it fails.
bool Has(const std::string& page, const std::string& text) {
  return page.find(text) != std::string::npos;
}

// A run as the speech job leaves it. Also written to a file, for a look with a browser.
ReportInput Example() {
  ReportInput input;
  input.title = "speech_20261121_063000";
  JobState& state = input.state;
  state.state = RunState::kSucceeded;
  state.start_ms = 1'795'242'600'000;
  state.end_ms = state.update_ms = 1'795'243'047'000;
  state.step = state.total_steps = 1800;
  state.metrics = {0.123456, 0.971, 0.9654, 1467.2};
  state.dollars_per_hour = 2.1752;
  state.resumed_from = 800;
  input.plan = {{"master", 1, "complex_model_m", "16 vCPU, 14.4 GB", 0.5672},
                {"worker", 2, "complex_model_m", "16 vCPU, 14.4 GB", 1.1344},
                {"parameter server", 1, "large_model", "8 vCPU, 52 GB", 0.4736}};
  input.settings = {{"module", "speech_commands"},
                    {"model_architecture", "low_latency_conv"},
                    {"consistency", "BSP"},
                    {"optimizer", "adam"},
                    {"batch size", "100 per replica, 300 in all"},
                    {"seed", "59185"}};
  input.substitutions = {{"trainingInput.region", "not used by LOCAL"},
                         {"trainingInput.workerType", "2 trainers share this machine's 2 cores"}};
  state.replicas = {
      {.role = "master",
       .index = 0,
       .pids = {4711, 4712},
       .state = "FINISHED",
       .host = "here",
       .device = "/cpu:0: 1 thread (no usable GPU: driver: libcuda.so.1 is not there)"},
      {.role = "worker", .index = 0, .pids = {4713}, .state = "FINISHED"},
      {.role = "worker", .index = 1, .pids = {4714}, .state = "FINISHED"},
      {.role = "ps", .index = 0, .pids = {4715}, .state = "FINISHED"}};
  RunHistory& history = input.history;
  history.labels = {"_silence_", "_unknown_", "yes", "no",  "up",   "down",
                    "left",      "right",     "on",  "off", "stop", "go"};
  std::mt19937 random(7);
  std::normal_distribution<double> noise(0, 0.08);
  for (int64_t step = 10; step <= 1800; step += 10) {
    const double loss = 2.4 * std::exp(-static_cast<double>(step) / 350) + 0.12;
    history.losses.push_back({step, loss * (1 + noise(random)), step <= 1400 ? 0.001 : 0.0001, 0});
    for (int32_t replica = 0; replica < 3; ++replica) {
      history.throughput.push_back({replica, step, 490 - 12.0 * replica + 60 * noise(random),
                                    170.0 + 10 * replica, 9, 22.0 - 5 * replica, 6, 3, 0});
    }
  }
  const auto confusion = [&](int64_t per_class, double accuracy) {
    std::vector<int64_t> counts(144, 0);
    for (size_t r = 0; r < 12; ++r) {
      for (int64_t i = 0; i < per_class; ++i) {
        const bool hit = std::uniform_real_distribution<>()(random) < accuracy;
        ++counts[r * 12 + (hit ? r : (r + 1 + random() % 3 * 4) % 12)];
      }
    }
    return counts;
  };
  for (int64_t step = 200; step <= 1800; step += 200) {
    const double accuracy = 0.97 - 0.8 * std::exp(-static_cast<double>(step) / 250);
    history.evaluations.push_back({step, "validation", accuracy, confusion(40, accuracy), 0});
  }
  history.evaluations.push_back({1800, "testing", 0.9654, confusion(60, 0.965), 0});
  history.events = {{800, "resumed at step 800", 1'795'242'800'000},
                    {1240, "checkpoint of step 1200: no space left on device; tried again", 0}};
  return input;
}

TEST(ReportTest, ThePageShowsTheRun) {
  const std::string page = RenderReport(Example());
  for (const char* expected : {"SUCCEEDED",
                               "96.5 %",
                               "test accuracy",
                               "97.1 %",
                               "7 min 27 s",
                               "$0.2701",
                               "Training loss",
                               "Accuracy",
                               "Throughput per replica",
                               "replica 2",
                               "Learning rate",
                               "Confusion matrix",
                               "_silence_",
                               "recall",
                               "complex_model_m",
                               "speech_commands",
                               "not used by LOCAL",
                               "resumed at step 800",
                               "waiting for parameters",
                               "pushing",
                               "pulling"}) {
    EXPECT_TRUE(Has(page, expected)) << expected;
  }
  ASSERT_TRUE(WriteFileAtomically(::testing::TempDir() + "muster_report.html", page).ok());
}

TEST(ReportTest, ThePageNeedsNoNetwork) {
  const std::string page = RenderReport(Example());
  for (const char* reference : {"http://", "https://", "src=", "<link", "@import", "url("}) {
    EXPECT_FALSE(Has(page, reference)) << reference;
  }
}

TEST(ReportTest, TextsAreEscapedWhereverTheyStand) {
  const std::string evil = "<script>alert('1')</script>\"&";
  ReportInput input = Example();
  input.title = evil;
  input.state.error_message = evil;
  input.state.replicas[0].device = evil;
  input.state.replicas[0].role = evil;
  input.state.replicas[0].detail = evil;
  input.settings = {{evil, evil}};
  input.substitutions = {{evil, evil}};
  input.plan = {{evil, 1, evil, evil, 1}};
  for (std::string& label : input.history.labels) label = evil;
  input.history.events = {{1, evil, 0}};
  input.history.evaluations.back().split = "testing";
  const std::string page = RenderReport(input);
  EXPECT_FALSE(Has(page, "<script>alert")) << "<script>alert";
  EXPECT_TRUE(Has(page, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;"))
      << "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;";
}

TEST(ReportTest, ARunThatFailedAtOnceHasAPageToo) {
  ReportInput input;
  input.title = "early";
  input.state.state = RunState::kFailed;
  input.state.error_message = "worker-2 was killed by signal 9";
  const std::string page = RenderReport(input);
  EXPECT_TRUE(Has(page, "worker-2 was killed by signal 9")) << "worker-2 was killed by signal 9";
  EXPECT_TRUE(Has(page, "nothing was measured")) << "nothing was measured";
  EXPECT_FALSE(Has(page, "Confusion")) << "Confusion";
}

TEST(ReportTest, NonFiniteLossesAreLeftOutOfTheCurve) {
  ReportInput input;
  for (int64_t step = 1; step <= 3; ++step) {
    input.history.losses.push_back(
        {step, step == 2 ? std::numeric_limits<double>::quiet_NaN() : 1.0, 0.1, 0});
  }
  EXPECT_FALSE(Has(RenderReport(input), "nan"));
}

TEST(ReportTest, AConfusionThatIsNoSquareIsLeftOut) {
  ReportInput input;
  input.history.evaluations = {{1, "testing", 0.5, {1, 2, 3}, 0}};
  EXPECT_FALSE(Has(RenderReport(input), "Confusion"));
}

TEST(ReportTest, ALongRunMakesAPageOfBoundedSize) {
  ReportInput input;
  for (int64_t step = 1; step <= 200'000; ++step) {
    input.history.losses.push_back({step, 1.0 / static_cast<double>(step), 0.1, 0});
  }
  EXPECT_LT(RenderReport(input).size(), 100'000u);
}

TEST(ReportChartTest, NumbersReadWell) {
  EXPECT_EQ(FormatCount(-1234567), "-1,234,567");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatNumber(0.0123456), "0.01235");
  EXPECT_EQ(FormatNumber(12345.6), "12,346");
  EXPECT_EQ(FormatNumber(std::numeric_limits<double>::infinity()), "–");
  EXPECT_EQ(FormatPercent(0.9654), "96.5 %");
}

TEST(ReportChartTest, AFlatOrSingleValueIsDrawn) {
  for (const double value : {0.0, 5.0, -3.0, 1e-9, 1e12}) {
    const std::string chart = RenderChart({"t", "", false, {{"s", {{1, value}}}}});
    EXPECT_TRUE(Has(chart, "<circle")) << "<circle";
    EXPECT_FALSE(Has(chart, "nan")) << "nan";
    EXPECT_FALSE(Has(chart, "inf")) << "inf";
  }
}

}  // namespace
}  // namespace muster::master
