#include "cluster/job_logs.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "master/job_files.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr std::string_view kEnd = ".log";
constexpr size_t kPartBytes = size_t{1} << 20;
constexpr size_t kTimeBytes = std::string_view("2026-11-21T06:30:00.123Z").size();

// The time that a line of ours begins with; "" for others.
std::string TimeOf(const std::string& line) {
  if (line.size() < kTimeBytes || !ParseTime(line.substr(0, kTimeBytes)).ok()) return "";
  return line.substr(0, kTimeBytes);
}

}  // namespace

std::vector<std::string> JobLogs::Roles() const {
  std::vector<std::string> roles;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code not_there;
    if (!name.ends_with(kEnd) || !it->is_regular_file(not_there)) continue;
    roles.push_back(name.substr(0, name.size() - kEnd.size()));
  }
  std::sort(roles.begin(), roles.end());
  return roles;
}

std::string JobLogs::Take(bool all) {
  std::vector<std::pair<std::string, std::string>> lines;  // time and line
  for (const std::string& role : role_.empty() ? Roles() : std::vector<std::string>{role_}) {
    Tail& tail = tails_[role];
    const std::string path = folder_ + "/" + role + std::string(kEnd);
    struct stat info {};
    if (stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      if (info.st_ino != tail.inode || info.st_size < tail.offset) tail.offset = 0;
      tail.inode = info.st_ino;
      for (;;) {
        const auto text = master::ReadPart(path, tail.offset, kPartBytes);
        if (!text.ok() || text->empty()) break;
        tail.offset += static_cast<int64_t>(text->size());
        tail.partial += *text;
      }
    }
    size_t begin = 0;
    for (size_t end; (end = tail.partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
      std::string line = tail.partial.substr(begin, end + 1 - begin);
      std::string time = TimeOf(line);
      if (!time.empty()) tail.time = std::move(time);
      lines.emplace_back(tail.time, std::move(line));
    }
    tail.partial.erase(0, begin);
    if (all && !tail.partial.empty()) {
      lines.emplace_back(tail.time, std::exchange(tail.partial, "") + "\n");
    }
  }
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string text;
  for (const auto& [time, line] : lines) text += line;
  return text;
}

}  // namespace muster::cluster
