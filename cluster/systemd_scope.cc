#include "cluster/systemd_scope.h"

#include <fmt/format.h>
#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include <filesystem>

#include "cluster/tool.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kAskMs = 5'000;
constexpr int kPauseMs = 5;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

std::string PathOf(const std::vector<std::string>& environment) {
  const std::string path = Variable(environment, "PATH");
  return path.empty() ? "/usr/bin:/bin" : path;
}

bool Lingers(const SystemdPlaces& places) {
  const passwd* user = getpwuid(geteuid());
  return user != nullptr && Exists(fmt::format("{}/{}", places.linger, user->pw_name));
}

}  // namespace

absl::StatusOr<bool> EnterScope(const SystemdPlaces& places,
                                const std::vector<std::string>& environment,
                                const std::string& description) {
  const bool root = geteuid() == 0;
  if (!Exists(places.booted) || (!root && !Lingers(places))) return false;
  std::vector<std::string> with = environment;
  if (!root && Variable(environment, "XDG_RUNTIME_DIR").empty()) {
    with.push_back(fmt::format("XDG_RUNTIME_DIR=/run/user/{}", geteuid()));
  }
  std::vector<std::string> words = {"busctl"};
  if (!root) words.emplace_back("--user");
  const std::string pid = fmt::format("{}", getpid());
  const std::string unit = fmt::format("muster-{}.scope", pid);
  // What systemd-run --scope does for a program that it then becomes:
  // org.freedesktop.systemd1(5), StartTransientUnit(name, mode, properties, aux).
  for (const std::string& word : std::vector<std::string>{"--quiet",
                                                          "call",
                                                          "org.freedesktop.systemd1",
                                                          "/org/freedesktop/systemd1",
                                                          "org.freedesktop.systemd1.Manager",
                                                          "StartTransientUnit",
                                                          "ssa(sv)a(sa(sv))",
                                                          unit,
                                                          "fail",
                                                          "3",
                                                          "PIDs",
                                                          "au",
                                                          "1",
                                                          pid,
                                                          "Description",
                                                          "s",
                                                          description,
                                                          "CollectMode",
                                                          "s",
                                                          "inactive-or-failed",
                                                          "0"}) {
    words.push_back(word);
  }
  ASSIGN_OR_RETURN(const ToolResult asked, RunTool(words, with, PathOf(environment), kAskMs));
  if (asked.code != 0) return absl::UnavailableError(asked.err.substr(0, asked.err.find('\n')));
  // The answer is that it will: what is started before would stay where it is.
  for (const int64_t asked_ms = MonotonicMillis(); MonotonicMillis() - asked_ms < kAskMs;) {
    const auto own = ReadFile(places.own);
    if (own.ok() && own->find(unit) != std::string::npos) return true;
    poll(nullptr, 0, kPauseMs);
  }
  return absl::DeadlineExceededError(fmt::format("{} has not begun", unit));
}

bool LoginEndsAll(const SystemdPlaces& places, const std::vector<std::string>& environment) {
  if (!Exists(places.booted)) return false;
  // org.freedesktop.login1(5). A line each: "b true", and "as 1 \"root\"".
  const auto asked =
      RunTool({"busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
               "org.freedesktop.login1.Manager", "KillUserProcesses", "KillExcludeUsers"},
              environment, PathOf(environment), kAskMs);
  if (!asked.ok() || asked->code != 0 || !asked->out.starts_with("b true")) return false;
  const passwd* user = getpwuid(geteuid());
  return user == nullptr ||
         asked->out.find(fmt::format("\"{}\"", user->pw_name)) == std::string::npos;
}

}  // namespace muster::cluster
