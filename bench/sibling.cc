#include "bench/sibling.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "telemetry/check.h"
#include "tests/harness/temporary_folder.h"

namespace muster::bench {

void MeasureWithSibling(const std::string& program, std::vector<std::string> words,
                        const std::vector<std::string>& wanted, Table& table) {
  const harness::TemporaryFolder folder;
  const std::string path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / program;
  const std::string json = folder.path() + "/rows.json";
  words.insert(words.begin(), path);
  words.push_back("--json");
  words.push_back(json);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
  pid_t pid = 0;
  int status = -1;
  if (posix_spawn(&pid, path.c_str(), &actions, nullptr, argv.data(), environ) == 0) {
    CHECK_EQ(waitpid(pid, &status, 0), pid);
  }
  posix_spawn_file_actions_destroy(&actions);
  const nlohmann::json rows = nlohmann::json::parse(std::ifstream(json), nullptr, false);
  for (const std::string& name : wanted) {
    const auto is = [&](const nlohmann::json& row) { return row.value("name", "") == name; };
    const auto found = rows.is_array() ? std::ranges::find_if(rows, is) : rows.end();
    if (status != 0 || found == rows.end()) {
      table.PrintSkipped(name.c_str(), fmt::format("{} failed (status {})", program, status));
    } else {
      table.PrintMeasured(*found);
    }
  }
}

}  // namespace muster::bench
