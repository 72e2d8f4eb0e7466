#include "configs/scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace muster {
namespace {

bool AllDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

template <typename T>
std::optional<T> FromChars(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view WithoutPlus(std::string_view text) {
  return text.size() > 1 && text[0] == '+' && text[1] != '-' ? text.substr(1) : text;
}

// Text such as 1e3 or 9.0: float64 that is an integer and exact.
std::optional<int64_t> IntegralDouble(std::string_view text) {
  const std::optional<double> value = FromChars<double>(text);
  if (!value || std::floor(*value) != *value || std::abs(*value) > 9007199254740992.0) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*value);
}

bool LeadingZero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && AllDigits(text);
}

Wrong NotAnInteger(std::string_view text) {
  if (LeadingZero(text)) {
    return {fmt::format("{} starts with 0, which some readers take as octal", Quoted(text)),
            "write the number without leading zeros"};
  }
  return {fmt::format("{} is not an integer", Quoted(text)), "write a number such as 9"};
}

}  // namespace

std::optional<int64_t> ParseInt(std::string_view text, int64_t low, int64_t high, Wrong* wrong) {
  const std::string_view digits = WithoutPlus(text);
  std::optional<int64_t> value;
  if (!LeadingZero(digits)) {
    value = FromChars<int64_t>(digits);
    if (!value) value = IntegralDouble(digits);
  }
  const bool huge = !value && AllDigits(digits.starts_with('-') ? digits.substr(1) : digits) &&
                    !LeadingZero(digits);
  if (huge || (value && (*value < low || *value > high))) {
    *wrong = {fmt::format("{} is out of range", Quoted(text)),
              fmt::format("write a number from {} to {}", low, high)};
    return std::nullopt;
  }
  if (!value) *wrong = NotAnInteger(digits);
  return value;
}

std::optional<uint64_t> ParseUint(std::string_view text, Wrong* wrong) {
  const std::string_view digits = WithoutPlus(text);
  if (!LeadingZero(digits)) {
    if (const auto value = FromChars<uint64_t>(digits)) return value;
    if (const auto value = IntegralDouble(digits); value && *value >= 0) return *value;
    if (AllDigits(digits) || FromChars<int64_t>(digits)) {
      *wrong = {fmt::format("{} is out of range", Quoted(text)),
                fmt::format("write a number from 0 to {}", std::numeric_limits<uint64_t>::max())};
      return std::nullopt;
    }
  }
  *wrong = NotAnInteger(digits);
  return std::nullopt;
}

std::optional<double> ParseDouble(std::string_view text, Wrong* wrong) {
  std::string_view number = WithoutPlus(text);
  const bool negative = number.starts_with('-');
  const std::string_view magnitude = negative ? number.substr(1) : number;
  if (magnitude == ".inf" || magnitude == ".Inf" || magnitude == ".INF") {
    return negative ? -std::numeric_limits<double>::infinity()
                    : std::numeric_limits<double>::infinity();
  }
  if (number == ".nan" || number == ".NaN" || number == ".NAN") {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const std::optional<double> value = FromChars<double>(number);
  if (!value) {
    *wrong = {fmt::format("{} is not a number of double precision", Quoted(text)),
              "write a number such as 0.001"};
  }
  return value;
}

std::optional<bool> ParseBool(std::string_view text, Wrong* wrong) {
  struct Name {
    const char* text;
    bool value;
  };
  static constexpr std::array<Name, 18> kNames = {{{"true", true},
                                                   {"True", true},
                                                   {"TRUE", true},
                                                   {"yes", true},
                                                   {"Yes", true},
                                                   {"YES", true},
                                                   {"on", true},
                                                   {"On", true},
                                                   {"ON", true},
                                                   {"false", false},
                                                   {"False", false},
                                                   {"FALSE", false},
                                                   {"no", false},
                                                   {"No", false},
                                                   {"NO", false},
                                                   {"off", false},
                                                   {"Off", false},
                                                   {"OFF", false}}};
  for (const Name& name : kNames) {
    if (text == name.text) return name.value;
  }
  *wrong = {fmt::format("{} is neither true nor false", Quoted(text)), "write true or false"};
  return std::nullopt;
}

std::optional<Seconds> ParseDuration(std::string_view text, Wrong* wrong) {
  constexpr int64_t kMaxSeconds = 315'576'000'000;  // 10,000 years, protobuf's limit
  const Wrong form = {fmt::format("{} is not a duration", Quoted(text)),
                      "write seconds with an s, such as 7200s or 1.5s, or 5m, 2h, 7d"};
  *wrong = form;
  std::string_view number = WithoutPlus(text);
  if (AllDigits(number)) {
    wrong->what = fmt::format("{} has no unit", Quoted(text));
    wrong->write = fmt::format("write {}s if these are seconds", number);
    return std::nullopt;
  }
  int64_t unit = 0;
  for (const auto& [letter, seconds] :
       {std::pair{'s', 1}, {'m', 60}, {'h', 3'600}, {'d', 86'400}}) {
    if (number.ends_with(letter)) unit = seconds;
  }
  if (unit == 0) return std::nullopt;
  number.remove_suffix(1);
  const bool negative = number.starts_with('-');
  if (negative) number.remove_prefix(1);
  const size_t dot = number.find('.');
  const std::string_view whole = number.substr(0, dot);
  std::string fraction(dot == std::string_view::npos ? "0" : number.substr(dot + 1));
  if (!AllDigits(whole) || !AllDigits(fraction)) return std::nullopt;
  // Half an hour is 30m: what a file says stays a whole number of nanoseconds.
  if (unit != 1 && dot != std::string_view::npos) return std::nullopt;
  if (fraction.size() > 9) {
    *wrong = {fmt::format("{} has more than nine fractional digits", Quoted(text)),
              "write at most nine, such as 1.123456789s"};
    return std::nullopt;
  }
  const std::optional<int64_t> units = FromChars<int64_t>(whole);
  if (!units || *units > kMaxSeconds / unit) {
    *wrong = {fmt::format("{} is out of range", Quoted(text)),
              fmt::format("write at most {}s", kMaxSeconds)};
    return std::nullopt;
  }
  fraction.resize(9, '0');
  const int sign = negative ? -1 : 1;
  return Seconds{sign * *units * unit, sign * *FromChars<int32_t>(fraction)};
}

std::string FormatDuration(const Seconds& duration) {
  const bool negative = duration.seconds < 0 || duration.nanos < 0;
  std::string text = fmt::format("{}{}", negative ? "-" : "", std::abs(duration.seconds));
  if (duration.nanos != 0) {
    text += fmt::format(".{:09}", std::abs(duration.nanos));
    text.erase(text.find_last_not_of('0') + 1);
  }
  return text + "s";
}

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 60;
  size_t end = std::min(kShown, text.size());
  while (end < text.size() && end > 0 && (text[end] & 0xC0) == 0x80) --end;  // no half characters
  std::string shown = "'";
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    shown += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return shown + (text.size() > kShown ? "…'" : "'");
}

}  // namespace muster
