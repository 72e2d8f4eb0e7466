#include "telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/http_get.h"

namespace muster {
namespace {

using harness::HttpGet;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Metric Pushes(double value, const std::string& replica) {
  return {.name = "pushes_total",
          .help = "Gradients",
          .labels = {{"replica", replica}},
          .value = value};
}

TEST(MetricsPage, ShowsWhatItsSourcesCountAtTheMomentOfTheQuestion) {
  const auto page = *MetricsPage::Serve();
  double pushes = 1;
  const auto first = page->Show([&](auto& out) { out.push_back(Pushes(pushes, "0")); });
  const auto second = page->Show([](auto& out) { out.push_back(Pushes(7, "1")); });
  EXPECT_THAT(HttpGet(page->address(), "/metrics"), HasSubstr("pushes_total{replica=\"0\"} 1\n"));
  pushes = 2;
  const std::string text = HttpGet(page->address(), "/metrics");
  EXPECT_THAT(text, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(text, HasSubstr("# HELP pushes_total Gradients\n"
                              "# TYPE pushes_total counter\n"
                              "pushes_total{replica=\"0\"} 2\n"
                              "pushes_total{replica=\"1\"} 7\n"))
      << "one family, whoever its numbers are from";
}

TEST(MetricsPage, HistogramsAreCumulativeAndCountWhatLiesBeyond) {
  const auto page = *MetricsPage::Serve();
  const auto shown = page->Show([](auto& out) {
    out.push_back({.name = "steps",
                   .help = "",
                   .kind = Metric::Kind::kHistogram,
                   .value = 30,
                   .bounds = {0, 2},
                   .counts = {5, 3, 1}});
  });
  const std::string text = HttpGet(page->address(), "/metrics");
  EXPECT_THAT(text, HasSubstr("steps_bucket{le=\"0\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("steps_bucket{le=\"2\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("steps_bucket{le=\"+Inf\"} 9\n"));
  EXPECT_THAT(text, HasSubstr("steps_count 9\n"));
  EXPECT_THAT(text, HasSubstr("steps_sum 30"));
}

TEST(MetricsPage, ASourceIsGoneWithItsHandleWhichMayOutliveThePage) {
  auto page = *MetricsPage::Serve();
  auto shown = page->Show([](auto& out) { out.push_back(Pushes(7, "1")); });
  shown.reset();
  EXPECT_THAT(HttpGet(page->address(), "/metrics"), Not(HasSubstr("pushes_total")));
  shown = page->Show([](auto&) {});
  page.reset();
}

TEST(MetricsPage, ListensOnThisMachineAloneAndNotWhenItIsGone) {
  auto page = *MetricsPage::Serve();
  const std::string address = page->address();
  EXPECT_THAT(address, StartsWith("127.0.0.1:"));
  const std::string port = address.substr(address.find(':'));
  EXPECT_NE(HttpGet(address, "/metrics"), "");
  EXPECT_EQ(HttpGet("127.0.0.2" + port, "/metrics"), "") << "bound to one address";
  page.reset();
  EXPECT_EQ(HttpGet(address, "/metrics"), "");
}

TEST(MetricsPage, OfTheProcess) {
  std::vector<Metric> out;
  ProcessMetrics("ps", 2, out);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].labels[1].second, "2");
  EXPECT_GT(out[1].value, 1e5);
}

}  // namespace
}  // namespace muster
