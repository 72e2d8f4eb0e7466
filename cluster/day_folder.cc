#include "cluster/day_folder.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr std::string_view kAsked = "asked\t";
constexpr size_t kMostNameBytes = 200;

}  // namespace

bool IsPlainName(const std::string& name) {
  return !name.empty() && name.size() <= kMostNameBytes && name[0] != '.' &&
         std::ranges::all_of(name, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
         });
}

std::string DayFolder::PathOf(const std::string& name) const {
  if (folder_.empty() || !IsPlainName(name)) return "";
  return fmt::format("{}/{}.tsv", folder_, name);
}

absl::StatusOr<DayFolder::Kept> DayFolder::Find(const std::string& name, int64_t now_ms) const {
  const absl::Status none = absl::NotFoundError("nothing of the last day is known");
  const std::string path = PathOf(name);
  if (path.empty()) return none;
  const auto text = ReadFile(path);
  if (!text.ok() || !text->starts_with(kAsked)) return none;
  const size_t end = text->find('\n');
  Kept kept;
  if (end == std::string::npos ||
      !absl::SimpleAtoi(text->substr(kAsked.size(), end - kAsked.size()), &kept.asked_ms) ||
      kept.asked_ms > now_ms || kept.asked_ms <= now_ms - kDayMs) {
    return none;
  }
  kept.text = text->substr(end + 1);
  return kept;
}

absl::Status DayFolder::Keep(const std::string& name, const std::string& text,
                             int64_t now_ms) const {
  const std::string path = PathOf(name);
  if (path.empty()) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  return WriteFileAtomically(path, fmt::format("{}{}\n{}", kAsked, now_ms, text));
}

}  // namespace muster::cluster
