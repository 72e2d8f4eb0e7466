#include "bench/sibling.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "bench/program_beside.h"
#include "telemetry/quiet_program.h"
#include "tests/harness/temporary_folder.h"

namespace muster::bench {

void MeasureWithSibling(const std::string& program, std::vector<std::string> words,
                        const std::vector<std::string>& wanted, Table& table) {
  const harness::TemporaryFolder folder;
  const std::string json = folder.path() + "/rows.json";
  words.insert(words.begin(), ProgramBeside(program));
  words.push_back("--json");
  words.push_back(json);
  const int status = RunQuietly(std::move(words));
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
