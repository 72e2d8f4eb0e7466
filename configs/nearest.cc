#include "configs/nearest.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster {
namespace {

// Names longer than this are compared by their beginning: the table below is quadratic, and no
// valid name is that long.
constexpr size_t kMaxLength = 64;

std::string Fold(std::string_view name) {
  std::string folded;
  for (const char c : name.substr(0, kMaxLength)) {
    if (c == '_' || c == '-' || c == '.') continue;
    folded += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return folded;
}

}  // namespace

// Optimal string alignment, row by row (Damerau 1964 with the restriction that no substring is
// edited twice).
int EditDistance(std::string_view a_name, std::string_view b_name) {
  const std::string a = Fold(a_name), b = Fold(b_name);
  std::vector<int> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    before = above;
    above = row;
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replace = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::string Nearest(std::string_view name, const std::vector<std::string>& valid) {
  const int length = static_cast<int>(std::min(name.size(), kMaxLength));
  int best = std::max(length / 3, length >= 4 ? 2 : 1) + 1;
  std::string nearest;
  for (const std::string& candidate : valid) {
    const int distance = EditDistance(name, candidate);
    if (distance < best && distance < static_cast<int>(candidate.size())) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string WriteNearest(std::string_view name, const std::vector<std::string>& valid) {
  const std::string nearest = Nearest(name, valid);
  if (!nearest.empty()) return fmt::format("write `{}`", nearest);
  return fmt::format("write one of {}", fmt::join(valid, ", "));
}

}  // namespace muster
