#include "cluster/job_data.h"

#include <fmt/format.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "telemetry/file.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kSayEvery(10);

int64_t BytesIn(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error, gone;
  fs::recursive_directory_iterator it(folder, error);
  for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
    if (!it->is_regular_file(gone)) continue;
    const auto size = it->file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

// Says now and then how much is there, while it lives.
class Progress {
 public:
  Progress(const std::string& folder, const Say& say)
      : thread_([this, folder, &say](const std::stop_token& stop) {
          std::unique_lock lock(mu_);
          while (!ended_.wait_for(lock, stop, kSayEvery, [&] { return stop.stop_requested(); })) {
            say(fmt::format("{:.1f} MB are there", static_cast<double>(BytesIn(folder)) / 1e6));
          }
        }) {}

 private:
  std::mutex mu_;
  std::condition_variable_any ended_;
  std::jthread thread_;
};

}  // namespace

absl::StatusOr<std::string> BringData(const std::string& address, const std::string& root,
                                      const ToolRunner& tools, const Patience& patience,
                                      const Say& say) {
  RETURN_IF_ERROR(CheckAddress(address));
  if (root.empty()) return absl::FailedPreconditionError("no HOME says where data may be kept");
  const std::string folder = fmt::format("{}/{}", root, worker::NameWhereBrought(address));
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return ErrnoStatus(error.value(), fmt::format("cannot make the folder {}", folder));
  }
  say(fmt::format("bringing {} to {}", address, folder));
  absl::Status brought;
  {
    const Progress progress(folder, say);
    brought = Bucket(address, tools, patience).Bring(folder);
  }
  RETURN_IF_ERROR(brought);
  if (fs::is_empty(folder, error)) {
    fs::remove(folder, error);
    return absl::NotFoundError(
        fmt::format("there is nothing at {}: see what is there with {} {}", address,
                    address.starts_with("s3:") ? "aws s3 ls" : "gcloud storage ls",
                    address.substr(0, address.find('/', 5) + 1)));
  }
  return folder;
}

absl::Status BringAllData(const std::vector<std::string>& data, const std::string& root,
                          const ToolRunner& tools, const Patience& patience, const Say& say) {
  for (const std::string& value : data) {
    if (IsAddress(value)) RETURN_IF_ERROR(BringData(value, root, tools, patience, say).status());
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
