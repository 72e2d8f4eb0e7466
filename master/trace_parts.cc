#include "master/trace_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "master/json_fields.h"
#include "telemetry/file.h"

namespace muster::master {
namespace {

namespace fs = std::filesystem;

// Servers come after all trainers.
constexpr int kFirstServerId = 1'000'000;

int TraceId(const rpc::Hello& self) {
  if (self.role == "ps") return kFirstServerId + self.index;
  return self.role == "chief" ? 1 : 2 + self.index;
}

// What lies between the brackets of the JSON array `text`; empty: it is none.
std::string_view Elements(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  if (!Json::accept(text)) return {};
  text = text.substr(text.find_first_not_of(kSpace));
  text = text.substr(0, text.find_last_not_of(kSpace) + 1);
  return text.starts_with('[') ? text.substr(1, text.size() - 2) : std::string_view();
}

}  // namespace

std::unique_ptr<Trace> MakeTrace(const Training& training, const rpc::Hello& self, int64_t pid,
                                 const std::string& host) {
  if (!training.has_trace()) return nullptr;
  Trace::Options options;
  options.id = TraceId(self);
  options.role = fmt::format("{}-{}", self.role, self.index);
  options.detail = fmt::format("pid {} on {}", pid, host);
  options.from_step = training.trace().from_step();
  options.steps = training.trace().steps();
  return std::make_unique<Trace>(std::move(options));
}

std::string TracePartPath(const rpc::Hello& self, const std::string& folder) {
  return fmt::format("{}/{}-{}.json", folder, self.role, self.index);
}

absl::Status WriteTracePart(const Trace& trace, const rpc::Hello& self, const std::string& folder) {
  if (trace.size() == 0) return absl::OkStatus();
  std::error_code error;
  fs::create_directories(folder, error);  // else the file cannot be written, which says why
  return WriteFileAtomically(TracePartPath(self, folder), trace.Json());
}

void RemoveTraceParts(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
}

absl::Status JoinTraceParts(const std::string& folder, const std::string& file,
                            std::vector<std::string>* warnings) {
  std::error_code error;
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    // A role that was killed while it wrote leaves a temporary file of another ending.
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  std::vector<std::string> parts;
  for (const std::string& path : paths) {
    absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok()) {
      warnings->push_back(std::string(text.status().message()));
    } else if (Elements(*text).empty()) {
      warnings->push_back(fmt::format("{} is no trace", path));
    } else {
      parts.push_back(*std::move(text));
    }
  }
  if (!parts.empty()) {
    std::vector<std::string_view> out = {"{\"displayTimeUnit\":\"ms\",\"traceEvents\":["};
    for (const std::string& part : parts) {
      if (out.size() > 1) out.push_back(",");
      out.push_back(Elements(part));
    }
    out.push_back("]}\n");
    RETURN_IF_ERROR(WriteFileAtomically(file, out));
  }
  RemoveTraceParts(folder);
  return absl::OkStatus();
}

}  // namespace muster::master
