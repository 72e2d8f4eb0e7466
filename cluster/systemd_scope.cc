#include "cluster/systemd_scope.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cluster/tool.h"

namespace muster::cluster {
namespace {

constexpr int64_t kAskMs = 5'000;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

bool Lingers(const SystemdPlaces& places) {
  const passwd* user = getpwuid(geteuid());
  return user != nullptr && Exists(fmt::format("{}/{}", places.linger, user->pw_name));
}

}  // namespace

absl::Status EnterScope(const SystemdPlaces& places, const std::vector<std::string>& environment,
                        const std::string& description) {
  const bool root = geteuid() == 0;
  if (!Exists(places.booted) || (!root && !Lingers(places))) return absl::OkStatus();
  std::vector<std::string> with = environment;
  std::string path = "/usr/bin:/bin";
  bool has_bus = root;
  for (const std::string& entry : environment) {
    if (entry.starts_with("PATH=")) path = entry.substr(5);
    has_bus |= entry.starts_with("XDG_RUNTIME_DIR=");
  }
  if (!has_bus) with.push_back(fmt::format("XDG_RUNTIME_DIR=/run/user/{}", geteuid()));
  std::vector<std::string> words = {"busctl"};
  if (!root) words.emplace_back("--user");
  const std::string pid = fmt::format("{}", getpid());
  // What systemd-run --scope does for a program that it then becomes:
  // org.freedesktop.systemd1(5), StartTransientUnit(name, mode, properties, aux).
  for (const std::string& word : std::vector<std::string>{"--quiet",
                                                          "call",
                                                          "org.freedesktop.systemd1",
                                                          "/org/freedesktop/systemd1",
                                                          "org.freedesktop.systemd1.Manager",
                                                          "StartTransientUnit",
                                                          "ssa(sv)a(sa(sv))",
                                                          fmt::format("muster-{}.scope", pid),
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
  ASSIGN_OR_RETURN(const ToolResult asked, RunTool(words, with, path, kAskMs));
  if (asked.code == 0) return absl::OkStatus();
  return absl::UnavailableError(asked.err.substr(0, asked.err.find('\n')));
}

}  // namespace muster::cluster
