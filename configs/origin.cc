#include "configs/origin.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace muster {

std::string ToString(const Origin& origin) {
  if (origin.line > 0) return fmt::format("{}:{}:{}", origin.name, origin.line, origin.column);
  return origin.name;
}

std::string ParentPath(std::string_view path) {
  const size_t end = path.find_last_of(".[");
  return end == std::string_view::npos ? std::string() : std::string(path.substr(0, end));
}

std::string IndexPath(std::string_view path, size_t index) {
  return fmt::format("{}[{}]", path, index);
}

std::string JoinPath(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
}

void Origins::Erase(const std::string& path) {
  std::erase_if(origins_, [&](const auto& entry) {
    const std::string& p = entry.first;
    return p == path || (p.starts_with(path) && (p[path.size()] == '.' || p[path.size()] == '['));
  });
}

const Origin& Origins::Find(const std::string& path) const {
  for (std::string p = path; !p.empty(); p = ParentPath(p)) {
    if (const auto it = origins_.find(p); it != origins_.end()) return it->second;
  }
  return root_;
}

namespace {

// A text about an argument starts with its flag, which the origin of one on the command line ("--
// --rate") has said already.
std::string WithoutFlag(const Origin& origin, const std::string& what) {
  if (!origin.name.starts_with("-- ")) return what;
  const std::string flag = origin.name.substr(3);
  if (!what.starts_with(flag)) return what;
  const std::string rest = what.substr(flag.size());
  return rest.starts_with(": ") ? rest.substr(2) : rest.starts_with(" ") ? rest.substr(1) : what;
}

}  // namespace

std::string ToString(const Problem& problem) {
  std::string text = ToString(problem.origin);
  if (!problem.field.empty() && !problem.origin.is_flag()) text += ": " + problem.field;
  text += ": " + WithoutFlag(problem.origin, problem.what);
  if (!problem.write.empty()) text += "; " + problem.write;
  return text;
}

void Problems::Add(Origin origin, std::string field, std::string what, std::string write) {
  Problem problem{std::move(origin), std::move(field), std::move(what), std::move(write)};
  constexpr size_t kKept = 1000;
  if (problems_.size() == kKept) {
    ++dropped_;
    return;
  }
  if (std::find(problems_.begin(), problems_.end(), problem) != problems_.end()) return;
  problems_.push_back(std::move(problem));
}

std::vector<Problem> Problems::Sorted() const {
  std::vector<Problem> sorted = problems_;
  const auto key = [](const Problem& p) {
    return std::make_tuple(p.origin.is_flag(), p.origin.line, p.origin.column);
  };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const Problem& a, const Problem& b) { return key(a) < key(b); });
  return sorted;
}

std::string Problems::Text(size_t limit) const {
  std::string text;
  size_t shown = 0;
  for (const Problem& problem : Sorted()) {
    if (shown++ == limit) {
      return text + fmt::format("and {} more problems\n", size() - limit);
    }
    text += ToString(problem) + "\n";
  }
  return text;
}

}  // namespace muster
