// Trace: what one role did in some steps of a job, as complete events of Chrome's trace event
// format
// ("Trace Event Format", Google): chrome://tracing and ui.perfetto.dev show it.
//
// Thread-safe. Owned by the role's main function; TraceThreads and TraceSpans borrow it. Bounded:
// the memory for all events is set aside at once, an event allocates nothing, and what comes when
// it is full is counted and dropped. Times are of CLOCK_MONOTONIC, which all processes of a host
// share; between hosts they mean nothing. Where nobody asked for a trace there is no Trace: a
// TraceThread of none makes spans that cost one branch.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "telemetry/mutex.h"

namespace muster {

class Trace {
 public:
  using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC

  struct Options {
    int id = 0;                 // the format's "pid": no two roles of a job have the same
    std::string role;           // "worker-1"
    std::string detail;         // shown beside it: "pid 4711 on host a"
    int64_t from_step = 0;      // >= 0
    int64_t steps = 0;          // traced are the steps [from_step, from_step + steps)
    size_t capacity = 1 << 17;  // events; 56 bytes each
  };
  struct Event {
    const char* name = "";  // of what was done: a literal
    int thread = 0;
    int64_t step = 0;
    int32_t replica = -1;             // -1: none
    int32_t slice = -1;               // -1: none
    const char* parameter = nullptr;  // its name, which must outlive the trace; null: none
    Clock::time_point begin, end;
  };

  explicit Trace(Options options);

  // A row of its own, "trainer" or "shard 1": events of one row may lie within one another, but
  // otherwise must not overlap. Returns Event.thread.
  int AddThread(const std::string& name);
  // Whether this step is asked for.
  bool Covers(int64_t step) const {
    return step >= options_.from_step && step - options_.from_step < options_.steps;
  }
  // PRECONDITION: Covers(event.step).
  void Add(const Event& event);

  int64_t size() const;     // events kept
  int64_t dropped() const;  // events that found no room
  // The events by their begin as a JSON array, one a line, after those that name role and threads.
  std::string Json() const;

 private:
  const Options options_;
  mutable Mutex mu_;
  std::vector<std::string> threads_ ABSL_GUARDED_BY(mu_);
  std::vector<Event> events_ ABSL_GUARDED_BY(mu_);
  int64_t dropped_ ABSL_GUARDED_BY(mu_) = 0;
};

// A row of a trace, or of none. A value.
class TraceThread {
 public:
  TraceThread() = default;
  TraceThread(Trace* trace, const std::string& name)
      : trace_(trace), thread_(trace == nullptr ? 0 : trace->AddThread(name)) {}

  // Whether something asks for this step.
  bool Covers(int64_t step) const { return trace_ != nullptr && trace_->Covers(step); }
  // Adds `event` to this row when its step is asked for.
  void Add(Trace::Event event) const {
    if (!Covers(event.step)) return;
    event.thread = thread_;
    trace_->Add(event);
  }

 private:
  Trace* trace_ = nullptr;
  int thread_ = 0;
};

// An event from construction to destruction. Fields as in Trace::Event.
class TraceSpan {
 public:
  TraceSpan(const TraceThread& thread, const char* name, int64_t step, int32_t replica,
            int32_t slice = -1, const char* parameter = nullptr) {
    if (!thread.Covers(step)) return;
    running_.emplace(
        thread, Trace::Event{name, 0, step, replica, slice, parameter, Trace::Clock::now(), {}});
  }
  ~TraceSpan() {
    if (!running_) return;
    running_->second.end = Trace::Clock::now();
    running_->first.Add(running_->second);
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  std::optional<std::pair<TraceThread, Trace::Event>> running_;  // none: not asked for
};

}  // namespace muster
