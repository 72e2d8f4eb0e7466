// MetricsPage: what a process counts, as Prometheus text at http://127.0.0.1:PORT/metrics. Nothing
// beyond this machine reaches it.
//
// Thread-safe. Owns the port and the threads that answer; costs nothing between two questions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "telemetry/status.h"

namespace muster {

// One number, or one histogram, at the moment of the question. Names and units as Prometheus wants
// them: seconds, bytes, counters end in `_total`.
struct Metric {
  enum class Kind { kCounter, kGauge, kHistogram };
  std::string name, help;
  Kind kind = Kind::kCounter;
  std::vector<std::pair<std::string, std::string>> labels = {};
  double value = 0;  // of a histogram: the sum of what it counted
  // Histograms: upper bounds, rising, and how many values lie in (previous bound, bound]; the last
  // count, one more than bounds, is of what lies beyond.
  std::vector<double> bounds = {};
  std::vector<int64_t> counts = {};
};

// Appends what it knows. Called on the page's threads; must neither block long nor use the page.
using MetricSource = std::function<void(std::vector<Metric>& out)>;

class MetricsPage {
 public:
  // Fails when no port can be had.
  static absl::StatusOr<std::unique_ptr<MetricsPage>> Serve();
  virtual ~MetricsPage() = default;

  // "127.0.0.1:43567"
  virtual const std::string& address() const = 0;
  // Shows `source` until the returned handle is gone; its last call has then returned. The handle
  // may outlive the page.
  virtual std::shared_ptr<void> Show(MetricSource source) = 0;
};

// "muster_role_info" of this process, and its resident memory.
void ProcessMetrics(const std::string& role, int index, std::vector<Metric>& out);

}  // namespace muster
