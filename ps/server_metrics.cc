#include "ps/server_metrics.h"

#include <iterator>

namespace muster::ps {

void ServerMetrics(const ServerStats& stats, std::vector<Metric>& out) {
  const auto counter = [&out](const char* name, const char* help, int64_t value) {
    out.push_back({.name = name, .help = help, .value = static_cast<double>(value)});
  };
  counter("muster_server_pushes_total", "Gradients of slices taken in, held ones included",
          stats.pushes);
  counter("muster_server_held_total", "Gradients that were held for their turn", stats.held);
  counter("muster_server_repeated_total", "Pushes that had been counted before", stats.repeated);
  counter("muster_server_dropped_total", "Gradients of slices that came too late for their step",
          stats.dropped);
  counter("muster_server_refused_total", "Messages answered by an error", stats.refused);
  counter("muster_server_applies_total", "Optimizer steps of slices", stats.applies);
  counter("muster_server_answers_total", "Slices of parameters sent", stats.answers);
  counter("muster_server_received_bytes_total", "Bytes of gradients taken in", stats.bytes_in);
  counter("muster_server_sent_bytes_total", "Bytes of parameters sent", stats.bytes_out);
  out.push_back({.name = "muster_server_held_bytes",
                 .help = "Gradients that wait for their turn now",
                 .kind = Metric::Kind::kGauge,
                 .value = static_cast<double>(stats.held_bytes)});
  out.push_back(
      {.name = "muster_server_staleness_steps",
       .help = "How many steps a gradient is behind the furthest replica when it is added",
       .kind = Metric::Kind::kHistogram,
       .value = static_cast<double>(stats.staleness_sum),
       .bounds = {std::begin(kStalenessBounds), std::end(kStalenessBounds)},
       .counts = {stats.staleness.begin(), stats.staleness.end()}});
}

}  // namespace muster::ps
