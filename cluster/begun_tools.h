// BegunTools: runs commands, of which some were begun before anybody asked for their answers, so
// that several run at once: a cloud's command line takes a second or two for each.
//
// Owned by the launcher's main thread (cluster/process.h). Commands that were begun are killed with
// it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/tool.h"
#include "telemetry/status.h"

namespace muster::cluster {

class BegunTools {
 public:
  // Of those that were begun no more than `at_once` run at a time.
  explicit BegunTools(std::vector<std::string> environment, size_t at_once = 6);

  // Begins a command that Run is to be asked for, once until then. Fails there, not here.
  void Begin(const std::vector<std::string>& words);

  // As RunTool: the answer of the same words that were begun and not asked for yet, or else runs
  // them now.
  absl::StatusOr<ToolResult> Run(const std::vector<std::string>& words, int64_t timeout_ms,
                                 const std::string& input);

 private:
  struct Begun {
    std::vector<std::string> words;
    std::unique_ptr<StartedTool> tool;  // null: it waits for its turn, or has ended
    std::optional<absl::StatusOr<ToolResult>> result;
  };

  void StartNext();
  // Waits until one of those that run has ended; false when that takes longer.
  bool AwaitOne(int64_t timeout_ms);

  const std::vector<std::string> environment_;
  const std::string path_;
  const size_t at_once_;
  const pid_t owner_;  // a fork of it must not wait for its children
  std::list<Begun> begun_;
};

}  // namespace muster::cluster
