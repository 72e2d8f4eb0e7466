#include "telemetry/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

namespace muster {
namespace {

std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The format counts in microseconds.
double Micros(Trace::Clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

// An event that tells a name rather than a time.
std::string Metadata(const char* name, int id, int thread, const char* argument,
                     const std::string& value) {
  return fmt::format(R"({{"name":"{}","ph":"M","pid":{},"tid":{},"args":{{"{}":{}}}}})", name, id,
                     thread, argument, value);
}

std::string Complete(const Trace::Event& event, int id) {
  std::string args = fmt::format(R"("step":{})", event.step);
  if (event.replica >= 0) args += fmt::format(R"(,"replica":{})", event.replica);
  if (event.parameter != nullptr) args += R"(,"parameter":)" + Quoted(event.parameter);
  if (event.slice >= 0) args += fmt::format(R"(,"slice":{})", event.slice);
  return fmt::format(
      R"({{"name":"{}","ph":"X","ts":{:.3f},"dur":{:.3f},"pid":{},"tid":{},"args":{{{}}}}})",
      event.name, Micros(event.begin.time_since_epoch()), Micros(event.end - event.begin), id,
      event.thread, args);
}

}  // namespace

Trace::Trace(Options options) : options_(std::move(options)) {
  MutexLock lock(mu_);
  events_.reserve(options_.capacity);
}

int Trace::AddThread(const std::string& name) {
  MutexLock lock(mu_);
  threads_.push_back(name);
  return static_cast<int>(threads_.size());
}

void Trace::Add(const Event& event) {
  MutexLock lock(mu_);
  if (events_.size() < options_.capacity) {
    events_.push_back(event);
  } else {
    ++dropped_;
  }
}

int64_t Trace::size() const {
  MutexLock lock(mu_);
  return static_cast<int64_t>(events_.size());
}

int64_t Trace::dropped() const {
  MutexLock lock(mu_);
  return dropped_;
}

std::string Trace::Json() const {
  MutexLock lock(mu_);
  // What lies within another event comes after it.
  std::vector<Event> events = events_;
  std::ranges::sort(events, {}, [](const Event& event) {
    return std::tuple(event.begin, -(event.end - event.begin).count(), event.thread);
  });
  const int id = options_.id;
  std::string out = "[\n" + Metadata("process_name", id, 0, "name", Quoted(options_.role));
  out += ",\n" + Metadata("process_labels", id, 0, "labels", Quoted(options_.detail));
  out += ",\n" + Metadata("process_sort_index", id, 0, "sort_index", fmt::format("{}", id));
  for (size_t i = 0; i < threads_.size(); ++i) {
    out +=
        ",\n" + Metadata("thread_name", id, static_cast<int>(i) + 1, "name", Quoted(threads_[i]));
  }
  for (const Event& event : events) out += ",\n" + Complete(event, id);
  return out + "\n]\n";
}

}  // namespace muster
