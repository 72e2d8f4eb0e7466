// Golden files: expected texts that stand beside the tests. Thread-compatible.
#pragma once

#include <string>

namespace muster {

// The whole file, or "" and a failed test when it cannot be read.
std::string ReadFileForTest(const std::string& path);

// Fails the test, naming the first line that differs, unless the file at `path` holds exactly
// `actual`. With MUSTER_UPDATE_GOLDEN=1 in the environment it writes the file instead: look at the
// diff before you commit it.
void ExpectGolden(const std::string& path, const std::string& actual);

}  // namespace muster
