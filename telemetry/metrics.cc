#include "telemetry/metrics.h"

#include <fmt/format.h>
#include <httplib.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>
#include <map>
#include <thread>

#include "telemetry/check.h"
#include "telemetry/mutex.h"

namespace muster {
namespace {

constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

// Of a label's value, or of a help text.
std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\' || c == '"') {
      out += {'\\', c};
    } else {
      out += c;
    }
  }
  return out;
}

void Sample(const Metric& metric, const char* suffix, const std::string& bound, double value,
            std::string& out) {
  std::string labels;
  const auto add = [&labels](const std::string& name, const std::string& text) {
    labels += fmt::format("{}{}=\"{}\"", labels.empty() ? "" : ",", name, Escaped(text));
  };
  for (const auto& [name, text] : metric.labels) add(name, text);
  if (!bound.empty()) add("le", bound);
  out += metric.name + suffix;
  if (!labels.empty()) out += "{" + labels + "}";
  out += fmt::format(" {}\n", value);
}

void Samples(const Metric& metric, std::string& out) {
  if (metric.kind != Metric::Kind::kHistogram) return Sample(metric, "", "", metric.value, out);
  CHECK_EQ(metric.counts.size(), metric.bounds.size() + 1);
  int64_t count = 0;
  for (size_t i = 0; i < metric.counts.size(); ++i) {
    count += metric.counts[i];
    const bool beyond = i == metric.bounds.size();
    Sample(metric, "_bucket", beyond ? "+Inf" : fmt::format("{}", metric.bounds[i]),
           static_cast<double>(count), out);
  }
  Sample(metric, "_sum", "", metric.value, out);
  Sample(metric, "_count", "", static_cast<double>(count), out);
}

// Prometheus's text format, version 0.0.4: what has one name stands together.
std::string ToText(const std::vector<Metric>& metrics) {
  constexpr const char* kTypes[] = {"counter", "gauge", "histogram"};
  std::map<std::string, std::string> families;
  for (const Metric& metric : metrics) {
    std::string& family = families[metric.name];
    if (family.empty()) {
      family = fmt::format("# HELP {} {}\n# TYPE {} {}\n", metric.name, Escaped(metric.help),
                           metric.name, kTypes[static_cast<int>(metric.kind)]);
    }
    Samples(metric, family);
  }
  std::string out;
  for (const auto& [name, family] : families) out += family;
  return out;
}

// The sources of a page. Thread-safe.
class Sources {
 public:
  int Add(MetricSource source) {
    MutexLock lock(mu_);
    sources_.emplace(next_, std::move(source));
    return next_++;
  }
  // Waits for a call in progress.
  void Remove(int id) {
    MutexLock lock(mu_);
    sources_.erase(id);
  }
  std::vector<Metric> Collect() {
    std::vector<Metric> metrics;
    MutexLock lock(mu_);
    for (const auto& [id, source] : sources_) source(metrics);
    return metrics;
  }

 private:
  Mutex mu_;
  int next_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<int, MetricSource> sources_ ABSL_GUARDED_BY(mu_);
};

class MetricsPageImpl final : public MetricsPage {
 public:
  MetricsPageImpl() {
    // Two threads: one that asks and does not read keeps nobody else waiting.
    server_.new_task_queue = [] { return new httplib::ThreadPool(2); };
    // A connection that is left open must not keep the process from ending.
    server_.set_keep_alive_max_count(1);
    server_.set_read_timeout(1);
    server_.set_write_timeout(1);
    server_.Get("/metrics", [sources = sources_](const httplib::Request&, httplib::Response& out) {
      out.set_content(ToText(sources->Collect()), kContentType);
    });
  }
  ~MetricsPageImpl() override {
    if (!thread_.joinable()) return;
    server_.stop();
    thread_.join();
  }

  absl::Status Listen() {
    const int port = server_.bind_to_any_port("127.0.0.1");
    if (port <= 0) {
      return absl::UnavailableError("no port of 127.0.0.1 can be had to show metrics");
    }
    address_ = fmt::format("127.0.0.1:{}", port);
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    // stop() before it runs would be lost.
    while (!server_.is_running()) std::this_thread::yield();
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }
  std::shared_ptr<void> Show(MetricSource source) override {
    const int id = sources_->Add(std::move(source));
    return {nullptr, [sources = sources_, id](void*) { sources->Remove(id); }};
  }

 private:
  const std::shared_ptr<Sources> sources_ = std::make_shared<Sources>();
  httplib::Server server_;
  std::string address_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsPage>> MetricsPage::Serve() {
  auto page = std::make_unique<MetricsPageImpl>();
  RETURN_IF_ERROR(page->Listen());
  return page;
}

void ProcessMetrics(const std::string& role, int index, std::vector<Metric>& out) {
  out.push_back({.name = "muster_role_info",
                 .help = "Which role this process has",
                 .kind = Metric::Kind::kGauge,
                 .labels = {{"role", role}, {"index", std::to_string(index)}},
                 .value = 1});
  int64_t pages = 0;
  if (std::FILE* statm = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(statm, "%*d %ld", &pages) != 1) pages = 0;
    std::fclose(statm);
  }
  out.push_back({.name = "process_resident_memory_bytes",
                 .help = "Resident memory size in bytes",
                 .kind = Metric::Kind::kGauge,
                 .value = static_cast<double>(pages * sysconf(_SC_PAGESIZE))});
}

}  // namespace muster
