// RunMemory: what a launcher that comes to a run later must hear of it to follow it like one that
// was there from the beginning.
//
// A pure value; owned by one thread. Times are of any one clock. Its size does not grow with the
// run: of what replaces each other the last is kept, and of messages the last kMessages.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/node.pb.h"
#include "cluster/process.h"
#include "master/status_line.h"

namespace muster::cluster {

class RunMemory {
 public:
  static constexpr size_t kMessages = 50;

  void OnStarted(int64_t role, std::string name, int64_t log_bytes, int64_t now_ms);
  void OnLine(const master::StatusLine& line, int64_t now_ms);
  // Its log on the launcher's machine is another one, which now has so much of earlier runs.
  void OnLogBytes(int64_t role, int64_t log_bytes);
  void OnExit(int64_t role, pid_t pid, const ExitStatus& status);

  // In the order in which they are to be told.
  std::vector<NodeEvent> Events(int64_t now_ms) const;

 private:
  struct Line {
    master::StatusLine line;
    int64_t ms = 0;
  };
  struct Role {
    std::string name;
    int64_t log_bytes = 0, started_ms = 0;
    std::optional<std::pair<pid_t, ExitStatus>> exit;
  };

  std::map<int64_t, Role> roles_;
  std::optional<Line> listening_, running_, progress_, result_, state_;
  std::map<std::pair<std::string, int>, Line> replicas_;  // by role and index
  std::deque<Line> messages_;
};

}  // namespace muster::cluster
