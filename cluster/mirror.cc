#include "cluster/mirror.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "cluster/job_registry.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxAddressBytes = 4096;
// A job whose state in the store is younger runs elsewhere: the sender's pause, and some more.
constexpr int64_t kSilentMs = 120'000;
constexpr int kPipeInChild = 3;

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return ErrnoStatus(error.value(), fmt::format("cannot make the folder {}", path));
  fs::permissions(path, fs::perms::owner_all, error);
  return absl::OkStatus();
}

}  // namespace

Mirror::Mirror(const std::string& address, const std::string& root, MirrorOptions options)
    : options_(std::move(options)),
      root_(root),
      folder_(root + "/job"),
      bucket_(address, options_.tools, options_.patience) {}

Mirror::~Mirror() {
  if (while_open_ >= 0) close(while_open_);
}

absl::StatusOr<std::unique_ptr<Mirror>> Mirror::Open(const std::string& address,
                                                     MirrorOptions options) {
  RETURN_IF_ERROR(CheckAddress(address));
  const std::string plain(PlainAddress(address));
  const std::string root = fs::path(FolderOf(plain, options.home)).parent_path().string();
  std::unique_ptr<Mirror> mirror(new Mirror(plain, root, std::move(options)));
  RETURN_IF_ERROR(MakeFolder(root));
  RETURN_IF_ERROR(MakeFolder(mirror->folder_));
  const std::string known = AddressOf(mirror->folder_);
  if (!known.empty() && known != plain) {
    return absl::FailedPreconditionError(
        fmt::format("{} is the mirror of {}: move one of the two jobs", root, known));
  }
  auto lock = master::JobLock::Take(master::JobDirectory(root), mirror->options_.patience.now_ms());
  if (!lock.ok()) return lock.status();
  mirror->lock_ = *std::move(lock);
  if (known.empty()) RETURN_IF_ERROR(WriteFileAtomically(root + "/address", plain + "\n"));
  return mirror;
}

absl::StatusOr<std::unique_ptr<Mirror>> Mirror::OfFolder(const std::string& job_dir,
                                                         MirrorOptions options) {
  const std::string address = AddressOf(job_dir);
  if (address.empty()) {
    return absl::NotFoundError(fmt::format("{} belongs to no object store", job_dir));
  }
  options.home = fs::path(job_dir).parent_path().parent_path().string();
  return Open(address, std::move(options));
}

std::string Mirror::FolderOf(const std::string& address, const std::string& home) {
  return fmt::format("{}/{}/job", home, worker::NameWhereBrought(PlainAddress(address)));
}

std::string Mirror::AddressOf(const std::string& job_dir) {
  const fs::path path = fs::path(job_dir).lexically_normal();
  if (path.filename() != "job") return "";
  auto text = ReadSmallFile((path.parent_path() / "address").string(), kMaxAddressBytes);
  if (!text.ok()) return "";
  while (text->ends_with('\n')) text->pop_back();
  // Whatever else may lie beside a folder of that name.
  const bool ours = CheckAddress(*text).ok() &&
                    path.parent_path().filename().string() == worker::NameWhereBrought(*text);
  return ours ? *text : "";
}

absl::Status Mirror::Bring(bool to_run) const {
  const std::string there = root_ + "/there";
  RETURN_IF_ERROR(MakeFolder(there));
  const absl::Status fetched = bucket_.Fetch("state.json", there);
  if (absl::IsNotFound(fetched)) return absl::OkStatus();  // a new job
  RETURN_IF_ERROR(fetched);
  const auto theirs = ReadStateOf(there);
  if (!theirs.ok()) return theirs.status();
  const auto ours = ReadStateOf(folder_);
  if (ours.ok() && ours->update_ms >= theirs->update_ms) return absl::OkStatus();
  const int64_t age_ms = options_.patience.now_ms() - theirs->update_ms;
  if (to_run && !master::IsFinal(theirs->state) && age_ms < kSilentMs) {
    return absl::FailedPreconditionError(fmt::format(
        "the job in {} runs on another machine, it seems: its state is {} s old; end it there, or "
        "wait until that is {} s",
        address(), age_ms / 1000, kSilentMs / 1000));
  }
  options_.say(fmt::format("bringing {} to {}", address(), folder_));
  return bucket_.Bring(folder_);
}

absl::Status Mirror::StartSending(const std::string& program,
                                  std::vector<std::string> environment) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  while_open_ = ends[1];
  auto started = Process::Start(
      {.name = "upload",
       .argv = {program, "upload", fmt::format("--while-open={}", kPipeInChild), folder_},
       .environment = std::move(environment),
       .log_path = root_ + "/upload.log",
       .fds = {{ends[0], kPipeInChild}}});
  close(ends[0]);
  if (!started.ok()) return started.status();
  sender_ = *std::move(started);
  return absl::OkStatus();
}

absl::Status Mirror::Finish() {
  options_.say(fmt::format("sending {} to {}", folder_, address()));
  if (while_open_ >= 0) close(std::exchange(while_open_, -1));
  if (sender_ != nullptr) {
    // Killed, aws would leave parts of files behind that cost and nobody sees.
    pollfd ended{sender_->pidfd(), POLLIN, 0};
    while (!sender_->Poll()) poll(&ended, 1, -1);
  }
  const absl::Status sent = bucket_.Send(folder_);
  if (sent.ok()) return sent;
  return absl::Status(sent.code(),
                      fmt::format("{}: the job's directory is not whole in {}; it is in {}: when "
                                  "the cause is gone, launch upload {}",
                                  std::string(sent.message()), address(), folder_, folder_));
}

absl::Status SendWhileOpen(const Bucket& bucket, const std::string& folder, int while_open,
                           int64_t pause_ms) {
  pollfd end{while_open, POLLIN, 0};
  absl::Status sent;
  // The first time after a pause: a job begins with little.
  while (poll(&end, 1, static_cast<int>(pause_ms)) == 0) {
    sent = bucket.Send(folder);
    if (!sent.ok()) {
      fmt::print(stderr, "{} {}\n", FormatTime(UnixMillis()), std::string(sent.message()));
    }
  }
  return sent;
}

}  // namespace muster::cluster
