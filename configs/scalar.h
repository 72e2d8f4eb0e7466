// Scalars of a job file: text to number, truth value or duration, with what is wrong when it is
// none. Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace muster {

// Why a text is not the value that its field wants.
struct Wrong {
  std::string what;
  std::string write;
};

// A decimal integer in [low, high]; "9.0" and "1e3" are integers too. Otherwise empty, and `*wrong`
// says why.
std::optional<int64_t> ParseInt(std::string_view text, int64_t low, int64_t high, Wrong* wrong);
std::optional<uint64_t> ParseUint(std::string_view text, Wrong* wrong);

// Any number of float64; "inf" and "nan" are numbers here, rules decide whether they make sense.
std::optional<double> ParseDouble(std::string_view text, Wrong* wrong);

// true/false, yes/no, on/off, as True or TRUE too (YAML 1.1).
std::optional<bool> ParseBool(std::string_view text, Wrong* wrong);

struct Seconds {
  int64_t seconds = 0;
  int32_t nanos = 0;  // same sign as seconds
};

// "7200s", "1.5s": up to nine fractional digits; "5m", "2h", "7d": none.
std::optional<Seconds> ParseDuration(std::string_view text, Wrong* wrong);
std::string FormatDuration(const Seconds& duration);

// `text` in quotes for a message: shortened, control characters shown as \xNN.
std::string Quoted(std::string_view text);

}  // namespace muster
