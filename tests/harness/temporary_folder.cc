#include "tests/harness/temporary_folder.h"

#include <stdlib.h>

#include <filesystem>
#include <system_error>

#include "telemetry/check.h"

namespace muster::harness {

TemporaryFolder::TemporaryFolder()
    : path_(std::filesystem::temp_directory_path() / "muster-XXXXXX") {
  CHECK(mkdtemp(path_.data()) != nullptr);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!keep_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace muster::harness
