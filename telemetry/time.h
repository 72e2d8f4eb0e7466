// Times for people and files: RFC 3339 in UTC with milliseconds ("2026-11-21T06:30:00.123Z").
//
// Free functions, thread-safe. Milliseconds are since 1970-01-01 UTC where nothing else is said.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "telemetry/status.h"

namespace muster {

// Now, by the system's clock. For composition roots; whatever is below takes times as arguments.
int64_t UnixMillis();

// For how long something takes, or may: goes on evenly when the system's clock is set. From an
// arbitrary moment.
int64_t MonotonicMillis();

std::string FormatTime(int64_t unix_ms);

// Reads what FormatTime writes, with any number of fractional digits or none. Fails on anything
// else.
absl::StatusOr<int64_t> ParseTime(std::string_view text);

// "3 s", "2 min 05 s", "1 h 02 min", "3 d 4 h"; negative is "?".
std::string FormatDuration(int64_t ms);

}  // namespace muster
