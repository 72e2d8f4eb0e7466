// A library includes only what stands above it in the house's list, and no one includes a main.cc.
//
// Run in the source folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kHouse = {"telemetry", "kernels", "configs", "rpc",
                                         "ps",        "worker",  "master",  "cluster"};

int Floor(const std::string& folder) {
  const auto it = std::find(kHouse.begin(), kHouse.end(), folder);
  return it == kHouse.end() ? -1 : static_cast<int>(it - kHouse.begin());
}

struct Include {
  fs::path file;
  int line;
  std::string target;
};

std::vector<Include> Includes(const fs::path& folder) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s+"([^"]+)")re");
  std::vector<Include> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension();
    if (extension != ".h" && extension != ".cc") continue;
    std::ifstream in(entry.path());
    std::string text;
    std::smatch match;
    for (int line = 1; std::getline(in, text); ++line) {
      if (std::regex_search(text, match, kInclude)) found.push_back({entry.path(), line, match[1]});
    }
  }
  return found;
}

TEST(IncludeOrder, FoldersUseOnlyWhatStandsAboveThem) {
  size_t seen = 0;
  for (const std::string& folder : kHouse) {
    for (const Include& include : Includes(folder)) {
      if (include.file.filename().string().ends_with("main.cc")) continue;  // composition roots
      ++seen;
      const int target = Floor(include.target.substr(0, include.target.find('/')));
      EXPECT_NE(target, -1) << include.file << ":" << include.line << " includes " << include.target
                            << ", which is no folder of the house";
      EXPECT_LE(target, Floor(folder)) << include.file << ":" << include.line << " includes "
                                       << include.target << ", which stands below it";
      EXPECT_FALSE(include.target.ends_with("main.cc")) << include.file << ":" << include.line;
    }
  }
  EXPECT_GT(seen, 50u) << "the test runs in the wrong folder";
}

TEST(IncludeOrder, NoFolderIsNamedAfterNothing) {
  for (const auto& entry : fs::directory_iterator(".")) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    for (const char* empty : {"common", "util", "utils", "core", "misc", "helpers"}) {
      EXPECT_NE(name, empty);
    }
  }
}

}  // namespace
