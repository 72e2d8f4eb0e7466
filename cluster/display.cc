#include "cluster/display.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr size_t kMaxLagging = 6;

// One terminal column per character: UTF-8 continuation bytes count for nothing.
size_t Columns(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

// `text` on one line of at most `width` columns, "…" at the end where it was cut.
std::string Fit(std::string_view text, size_t width) {
  std::string line;
  size_t columns = 0;
  const bool cut = Columns(text) > width;
  for (const char c : text) {
    const bool starts = (static_cast<uint8_t>(c) & 0xc0) != 0x80;
    if (starts && cut && columns + 1 == width) break;
    columns += starts ? 1 : 0;
    line += static_cast<uint8_t>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
  if (cut) line += "…";
  return line;
}

std::string Count(int64_t value) {
  std::string digits = fmt::format("{}", value);
  for (size_t at = digits.size(); at > 3 + (value < 0 ? 1u : 0u);) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

double Fraction(const DisplayState& state) {
  if (state.total_steps <= 0) return 0;
  return std::clamp(static_cast<double>(state.step) / static_cast<double>(state.total_steps), 0.0,
                    1.0);
}

std::string Bar(double fraction, size_t columns) {
  const auto full = static_cast<size_t>(std::floor(fraction * static_cast<double>(columns)));
  std::string bar;
  for (size_t i = 0; i < columns; ++i) bar += i < full ? "█" : "░";
  return bar;
}

std::string Steps(const DisplayState& state) {
  if (state.total_steps <= 0) return fmt::format("step {}", Count(state.step));
  return fmt::format("step {}/{} ({:.0f} %)", Count(state.step), Count(state.total_steps),
                     std::floor(100 * Fraction(state)));
}

// So far, by the hour, and what it comes to at this speed.
std::string Cost(const DisplayState& state) {
  std::string text = fmt::format("${:.2f} at ${:.2f}/h", *state.cost, state.cost_per_hour);
  if (state.eta_ms) {
    text +=
        fmt::format(", ${:.2f} in all",
                    *state.cost + state.cost_per_hour * static_cast<double>(*state.eta_ms) / 3.6e6);
  }
  return text;
}

std::string Numbers(const DisplayState& state) {
  std::string line;
  const auto add = [&line](const std::string& text) {
    if (!line.empty()) line += "   ";
    line += text;
  };
  if (state.loss) add(fmt::format("loss {:.4f}", *state.loss));
  if (state.validation_accuracy) {
    add(fmt::format("validation {:.1f} %", 100 * *state.validation_accuracy));
  }
  if (state.samples_per_second) {
    add(fmt::format("{} samples/s", Count(std::llround(*state.samples_per_second))));
  }
  if (state.eta_ms) add(fmt::format("ETA {}", FormatDuration(*state.eta_ms)));
  if (state.cost) add(Cost(state));
  return line;
}

std::string Lag(const master::LaggingReplica& replica) {
  std::string text = fmt::format("{}-{} lags", replica.role, replica.index);
  if (replica.steps_behind > 0) {
    text += fmt::format(": {} step{} behind", Count(replica.steps_behind),
                        replica.steps_behind == 1 ? "" : "s");
  }
  if (replica.silent_ms >= 1000) {
    text += fmt::format("{} silent for {}", replica.steps_behind > 0 ? "," : ":",
                        FormatDuration(replica.silent_ms));
  }
  return text;
}

}  // namespace

std::vector<std::string> RenderLive(const DisplayState& state, int width) {
  const auto columns = static_cast<size_t>(std::max(20, width));
  std::vector<std::string> lines;
  std::string head = fmt::format("{}  {}", state.job_id, master::RunStateName(state.state));
  if (!state.stage.empty()) head += fmt::format("  {}", state.stage);
  if (state.ready_roles < state.roles) {
    head += fmt::format("  {} of {} roles ready", state.ready_roles, state.roles);
  }
  head += fmt::format("  {}", FormatDuration(state.elapsed_ms));
  lines.push_back(Fit(head, columns));
  if (state.total_steps > 0) {
    const std::string steps = Steps(state);
    const size_t room = columns > Columns(steps) + 2 ? columns - Columns(steps) - 2 : 0;
    lines.push_back(
        room < 8 ? Fit(steps, columns)
                 : fmt::format("{}  {}", Bar(Fraction(state), std::min<size_t>(room, 50)), steps));
  }
  const std::string numbers = Numbers(state);
  if (!numbers.empty()) lines.push_back(Fit(numbers, columns));
  for (size_t i = 0; i < state.lagging.size(); ++i) {
    if (i == kMaxLagging) {
      lines.push_back(
          Fit(fmt::format("and {} more lag", state.lagging.size() - kMaxLagging), columns));
      break;
    }
    lines.push_back(Fit(Lag(state.lagging[i]), columns));
  }
  return lines;
}

std::string RenderPlain(const DisplayState& state) {
  std::string line = Steps(state);
  if (state.state != master::RunState::kRunning) {
    line = fmt::format("{}  {}", master::RunStateName(state.state), line);
  }
  const std::string numbers = Numbers(state);
  if (!numbers.empty()) line += "   " + numbers;
  if (!state.lagging.empty()) line += "   " + Lag(state.lagging.front());
  if (state.lagging.size() > 1) line += fmt::format(" (and {} more)", state.lagging.size() - 1);
  return line;
}

Screen::Screen(int fd, const char* term)
    : fd_(fd), live_(isatty(fd) != 0 && term != nullptr && std::strcmp(term, "dumb") != 0) {}

int Screen::width() const {
  winsize size{};
  if (ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

int Screen::ShownRows() const {
  const auto columns = static_cast<size_t>(width());
  size_t rows = 0;
  for (const std::string& line : shown_) {
    rows += std::max<size_t>(1, (Columns(line) + columns - 1) / columns);
  }
  return static_cast<int>(rows);
}

void Screen::Show(const std::vector<std::string>& lines) {
  if (!live_ || lines == shown_) return;
  // Cursor hidden and no wrapping while the frame is drawn, both back at its end.
  std::string frame = "\x1b[?25l\x1b[?7l";
  const int rows = ShownRows();
  if (rows > 0) frame += fmt::format("\x1b[{}A", rows);
  frame += "\r";
  for (const std::string& line : lines) frame += fmt::format("\x1b[2K{}\n", line);
  frame += "\x1b[J\x1b[?7h\x1b[?25h";
  Write(frame);
  shown_ = lines;
}

void Screen::Print(std::string_view text) {
  const std::vector<std::string> lines = shown_;
  Show({});
  Write(fmt::format("{}\n", text));
  Show(lines);
}

void Screen::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    // Nobody reads any more: the run goes on all the same.
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace muster::cluster
