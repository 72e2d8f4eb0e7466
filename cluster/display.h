// Display: what a person sees of a run: lines that are redrawn in place on a terminal, one plain
// line per interval elsewhere.
//
// DisplayState and the two rendering functions are pure: thread-safe. Screen is owned by one
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "master/status_line.h"

namespace muster::cluster {

struct DisplayState {
  std::string job_id;
  master::RunState state = master::RunState::kQueued;
  std::string stage;  // "reading data", "training"; may be empty
  int64_t step = 0, total_steps = 0;
  std::optional<double> loss, validation_accuracy, samples_per_second;
  std::optional<int64_t> eta_ms;
  std::optional<double> cost;  // of machines that are rented: so far, in US dollars
  double cost_per_hour = 0;
  int64_t elapsed_ms = 0;
  int ready_roles = 0, roles = 0;
  std::vector<master::LaggingReplica> lagging;
};

// The lines of the live display, none wider than `width` columns (at least 20).
std::vector<std::string> RenderLive(const DisplayState& state, int width);

// One line: "step 400/18,000 (2 %)  loss 1.234  …", and who lags.
std::string RenderPlain(const DisplayState& state);

// Draws on a file descriptor. In live mode the last lines of the terminal are the display and
// everything printed goes above it. Each frame is one write that leaves the terminal in its normal
// state, so nothing has to be restored, whatever ends the process.
class Screen {
 public:
  // Live when `fd` is a terminal that understands cursor movement (`term`: the value of TERM, may
  // be null).
  Screen(int fd, const char* term);

  bool live() const { return live_; }
  // Columns of the terminal, 80 when it is none.
  int width() const;

  // Replaces the display; in plain mode nothing.
  void Show(const std::vector<std::string>& lines);
  // Prints `text` (one or more lines) above the display.
  void Print(std::string_view text);
  // Takes the display away.
  void Clear() { Show({}); }

 private:
  void Write(std::string_view bytes);
  // Rows that the display takes now: a terminal that was made narrower has wrapped its lines.
  int ShownRows() const;

  const int fd_;
  const bool live_;
  std::vector<std::string> shown_;
};

}  // namespace muster::cluster
