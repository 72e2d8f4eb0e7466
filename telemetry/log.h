// Log: plain lines with time, role and level, to a file or to stderr; the last lines are kept for
// error messages.
//
// A Log is built by main (or a test) and handed down; there is no global one. Thread-safe.
// Formatting with fmt. Line format: `2026-11-21T06:30:00.123Z worker-2 I text`.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "telemetry/status.h"

namespace muster {

class Log {
 public:
  enum class Level { kInfo, kWarning, kError };

  // Writes to stderr. `role` is "worker-2", "master", … and may be empty.
  static std::unique_ptr<Log> ToStderr(std::string role);
  // Appends to the file at `path`, made when absent; rotated at `max_bytes`, `keep` old files stay.
  // Fails when it cannot be opened.
  static absl::StatusOr<std::unique_ptr<Log>> ToFile(const std::string& path, std::string role,
                                                     size_t max_bytes = 64 << 20, int keep = 3);
  // Drops everything; for tests.
  static std::unique_ptr<Log> Discard();

  virtual ~Log() = default;

  template <typename... Args>
  void Info(fmt::format_string<Args...> format, Args&&... args) {
    Write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Warning(fmt::format_string<Args...> format, Args&&... args) {
    Write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Error(fmt::format_string<Args...> format, Args&&... args) {
    Write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
  }

  // Writes one line (line breaks in `text` are kept as they are).
  virtual void Write(Level level, std::string_view text) = 0;
};

}  // namespace muster
