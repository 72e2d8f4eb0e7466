#include "cluster/bundle.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "cluster/tool.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTimeoutMs = 120'000;

// The newest archive of the programs beside `folder`; "" when there is none.
std::string Archive(const fs::path& folder) {
  std::string newest;
  fs::file_time_type time;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("muster-") || name.starts_with("muster-speech-") ||
        !name.ends_with("-linux-x86_64.tar.zst")) {
      continue;
    }
    const auto written = it->last_write_time(error);
    if (error || (!newest.empty() && written <= time)) continue;
    time = written;
    newest = it->path().string();
  }
  return newest;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const std::string>> MakeBundle(
    const std::string& program_dir, const std::vector<std::string>& environment,
    const std::string& path_variable) {
  const fs::path root = fs::path(program_dir).parent_path();
  std::vector<std::string> words;
  std::error_code error;
  // As fast as gzip goes: most of what it saves it saves so, and every host can unpack it.
  if (fs::is_directory(root / "lib", error)) {
    words = {"sh", "-c", "tar -C \"$0\" -cf - -- \"$1/bin\" \"$1/lib\" | gzip -1",
             root.parent_path().string(), root.filename().string()};
  } else if (const std::string archive = Archive(root); !archive.empty()) {
    words = {"sh", "-c", "zstd -dcq -- \"$0\" | gzip -1", archive};
  } else {
    return absl::NotFoundError(
        fmt::format("there is no bundle of this build in {}: run ./dev bundle, or name a folder of "
                    "the hosts that has the programs in cluster.ssh.programs",
                    root.string()));
  }
  ASSIGN_OR_RETURN(ToolResult made, RunTool(words, environment, path_variable, kTimeoutMs));
  if (made.code != 0) {
    return absl::InternalError(fmt::format("cannot pack the programs: {}", made.err));
  }
  return std::make_shared<const std::string>(std::move(made.out));
}

}  // namespace muster::cluster
