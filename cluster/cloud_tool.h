// CloudTool: asks a cloud through its command line, again while a failure may pass by itself; and
// the way to a machine of a cloud.
//
// Borrows `patience`; as thread-safe as what it is given.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cluster/node_set.h"
#include "cluster/provider.h"

namespace muster::cluster {

class CloudTool {
 public:
  // What an answer means: OK, or a line for the user; Unavailable for what may pass by itself.
  using Judge = absl::Status (*)(const ToolResult& result);
  // `missing`: what to do where there is no such program. `timeout_ms`: of each time.
  CloudTool(ToolRunner tools, const Patience& patience, Judge judge, std::string missing,
            int64_t timeout_ms = 90'000, Shortcuts shortcuts = {})
      : tools_(std::move(tools)),
        patience_(patience),
        judge_(judge),
        missing_(std::move(missing)),
        timeout_ms_(timeout_ms),
        shortcuts_(std::move(shortcuts)) {}

  // Four times in all, with longer and longer pauses, for as long as the user has patience.
  // `before_each`: told of each time, and stops it all when it fails.
  absl::StatusOr<ToolResult> Ask(const std::vector<std::string>& words,
                                 const std::function<absl::Status()>& before_each = nullptr) const;
  // Begins what Ask is going to be asked for, where there is such a shortcut.
  bool begins() const { return shortcuts_.begin != nullptr; }
  void Begin(const std::vector<std::string>& words) const;

  // What it prints, which stays as it is for a day and is kept under `name`, if that is plain.
  absl::StatusOr<std::string> AskForTheDay(const std::string& name,
                                           const std::vector<std::string>& words) const;
  void BeginForTheDay(const std::string& name, const std::vector<std::string>& words) const;

 private:
  const ToolRunner tools_;
  const Patience& patience_;
  const Judge judge_;
  const std::string missing_;
  const int64_t timeout_ms_;
  const Shortcuts shortcuts_;
};

// --dry-run: nobody was asked (ToolRunner).
bool IsUnasked(const absl::Status& status);

// The lines of an answer that are not empty.
std::vector<std::string> Lines(const std::string& text);

// Where ssh finds it; `user`: of its image.
SshHost SshHostAt(const Machine& machine, const std::string& user);

// By ssh, at that host.
RunHost ReachMachine(const Machine& machine, const SshHost& host,
                     const std::function<RunHost(const SshHost&)>& reach);

}  // namespace muster::cluster
