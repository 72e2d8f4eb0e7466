// DayFolder: texts that are believed for a day, a file each: what a cloud has said of prices,
// machine types and images.
//
// Has no state but its files, which several launchers may share: thread-safe. Times are Unix
// milliseconds.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "telemetry/status.h"

namespace muster::cluster {

inline constexpr int64_t kDayMs = 86'400'000;

// Whether it may be a name, or a part of one: letters, digits, '-', '_' and '.', which does not
// come first; not too long for a file's.
bool IsPlainName(const std::string& name);

class DayFolder {
 public:
  // "": nothing is kept.
  explicit DayFolder(std::string folder) : folder_(std::move(folder)) {}

  bool keeps() const { return !folder_.empty(); }

  struct Kept {
    std::string text;
    int64_t asked_ms = 0;
  };
  // What Keep was given for the name less than a day ago. NotFound when there is none, or what is
  // there does not read.
  absl::StatusOr<Kept> Find(const std::string& name, int64_t now_ms) const;
  // Fails when it cannot be written. Nothing for a name that is not plain.
  absl::Status Keep(const std::string& name, const std::string& text, int64_t now_ms) const;

 private:
  std::string PathOf(const std::string& name) const;

  const std::string folder_;
};

}  // namespace muster::cluster
