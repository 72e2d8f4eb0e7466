#include "cluster/shown_commands.h"

#include <fmt/format.h>

#include <utility>

#include "cluster/ssh.h"

namespace muster::cluster {

ToolRunner ShownCommands(Say say) {
  return [say = std::move(say)](const std::vector<std::string>& words, int64_t,
                                const std::string& input) {
    std::vector<std::string> quoted;
    for (const std::string& word : words) {
      const bool plain =
          !word.empty() && word.find_first_of(" \t\n'\"`|&;<>()[]{}*?!#~") == std::string::npos;
      quoted.push_back(plain ? word : ShellQuote(word));
    }
    say(fmt::format("{}{}", fmt::join(quoted, " "),
                    input.empty() ? "" : fmt::format(" <<'END'\n{}END", input)));
    return absl::StatusOr<ToolResult>(absl::UnimplementedError("not asked"));
  };
}

}  // namespace muster::cluster
