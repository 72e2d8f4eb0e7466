#include "cluster/data_send.h"

#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <memory>
#include <utility>

#include "cluster/bucket_address.h"
#include "cluster/process.h"
#include "cluster/ssh.h"
#include "cluster/tool.h"
#include "telemetry/crc32c.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "muster: ", kThere = "there", kMissing = "missing ",
                           kFailed = "! ";
constexpr size_t kChunkBytes = size_t{256} << 10;
constexpr size_t kMaxGreetingBytes = size_t{1} << 20;
constexpr int64_t kTellBytes = int64_t{4} << 20;
constexpr int64_t kSayMs = 5'000;
constexpr int kLookMs = 100, kLastWordsMs = 2'000;

// What the host runs: says whether it has the data, and otherwise takes an archive of it.
std::string Script(const std::string& root, const DataSet& data) {
  const std::string path = IsAddress(data.value) ? "" : data.value;
  const std::string to = root + "/" + worker::NameWhereBrought(data.value);
  return fmt::format(
      "umask 077\n"
      "p={}\n"
      "[ -n \"$p\" ] && [ -d \"$p\" ] && {{ echo 'muster: there'; exit 0; }}\n"
      "d={}\n"
      "[ \"$(cat \"$d/.muster-stamp\" 2>/dev/null)\" = {} ] && {{ echo 'muster: there'; exit 0; "
      "}}\n"
      "t=\"$d.new.$$\"\n"
      "mkdir -p \"$t\" || {{ echo \"muster: cannot make $t\"; exit 3; }}\n"
      "trap 'rm -rf \"$t\"' EXIT\n"
      "trap 'exit 3' HUP INT TERM\n"
      // What a host that was switched off has left.
      "find \"${{d%/*}}\" -maxdepth 1 -name '*.new.*' -mtime +0 -exec rm -rf {{}} +\n"
      "echo \"muster: missing $(df -Pk \"$t\" | awk 'NR == 2 {{ print $4 }}')\"\n"
      "tar -xf - -C \"$t\" && [ $(find \"$t\" -type f | wc -l) = {} ] || {{ echo \"muster: the "
      "data "
      "did not arrive whole in $t\"; exit 3; }}\n"
      "echo {} > \"$t/.muster-stamp\"\n"
      "rm -rf \"$d\"\n"
      "mv -T \"$t\" \"$d\" || {{ echo \"muster: cannot make $d\"; exit 3; }}\n"
      "trap - EXIT\n"
      "echo 'muster: there'\n",
      ShellQuote(path), ShellPath(to), data.stamp, data.files, data.stamp);
}

class Pipe {
 public:
  static absl::StatusOr<Pipe> Make() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
    return Pipe(ends[0], ends[1]);
  }
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  Pipe(Pipe&& from) noexcept
      : read_(std::exchange(from.read_, -1)), write_(std::exchange(from.write_, -1)) {}
  Pipe& operator=(Pipe&&) = delete;

  int read() const { return read_; }
  int write() const { return write_; }
  void CloseRead() { Close(&read_); }
  void CloseWrite() { Close(&write_); }

 private:
  Pipe(int read, int write) : read_(read), write_(write) {}
  static void Close(int* fd) {
    if (*fd >= 0) close(std::exchange(*fd, -1));
  }
  int read_, write_;
};

ExitStatus Ended(Process& process) {
  pollfd ended{process.pidfd(), POLLIN, 0};
  while (!process.Poll()) poll(&ended, 1, -1);
  return *process.Poll();
}

// The command that reaches the host, with the script.
class Conversation {
 public:
  static absl::StatusOr<std::unique_ptr<Conversation>> Start(const RunHost& host,
                                                             const std::string& script) {
    ASSIGN_OR_RETURN(Pipe in, Pipe::Make());
    ASSIGN_OR_RETURN(Pipe out, Pipe::Make());
    auto talk = std::unique_ptr<Conversation>(
        new Conversation(host, std::move(in), std::move(out), memfd_create("said", MFD_CLOEXEC)));
    ProcessSpec spec;
    spec.name = host.link.name;
    spec.argv = host.link.argv;
    spec.argv.back() = "exec sh -c " + ShellQuote(script);
    spec.environment = host.link.environment;
    spec.log_path = "/dev/null";
    spec.fds = {{talk->in_.read(), 0}, {talk->out_.write(), 1}, {talk->said_fd_, 2}};
    ASSIGN_OR_RETURN(talk->process_, Process::Start(spec));
    talk->in_.CloseRead();
    talk->out_.CloseWrite();
    return talk;
  }
  ~Conversation() {
    // The end of its input has the script end, which clears up.
    in_.CloseWrite();
    if (process_ != nullptr) {
      pollfd ended{process_->pidfd(), POLLIN, 0};
      poll(&ended, 1, kLastWordsMs);
    }
    process_.reset();
    close(said_fd_);
  }

  // The next line of the script's, without the mark. Fails when there is none any more.
  absl::StatusOr<std::string> Line() {
    for (;;) {
      const size_t end = text_.find('\n');
      if (end != std::string::npos) {
        std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        // Whatever a shell of the host prints first does no harm.
        if (line.starts_with(kMark)) return line.substr(kMark.size());
        continue;
      }
      std::array<char, 4096> bytes{};
      const ssize_t n = ::read(out_.read(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0 || text_.size() > kMaxGreetingBytes) return Complaint();
      text_.append(bytes.data(), static_cast<size_t>(n));
    }
  }
  // False when nobody reads any more.
  bool Write(std::string_view bytes) { return WriteAll(in_.write(), bytes, "a host").ok(); }
  void EndInput() { in_.CloseWrite(); }

 private:
  Conversation(const RunHost& host, Pipe in, Pipe out, int said_fd)
      : host_(host), in_(std::move(in)), out_(std::move(out)), said_fd_(said_fd) {}

  absl::Status Complaint() {
    in_.CloseWrite();
    Ended(*process_);
    std::array<char, 4096> said{};
    const ssize_t n = pread(said_fd_, said.data(), said.size(), 0);
    return absl::UnavailableError(
        host_.link.explain(std::string(said.data(), static_cast<size_t>(std::max<ssize_t>(n, 0)))));
  }

  const RunHost& host_;
  Pipe in_, out_;
  const int said_fd_;  // in memory
  std::unique_ptr<Process> process_;
  std::string text_;
};

// Writes an archive of the folder into the conversation.
absl::Status WriteArchive(const DataSet& data, const RunHost& host, Conversation& talk,
                          const std::function<void(int64_t)>& on_bytes) {
  ASSIGN_OR_RETURN(Pipe archive, Pipe::Make());
  ProcessSpec spec;
  spec.name = "tar";
  spec.argv = {FindProgram("tar", Variable(host.link.environment, "PATH")),
               "-chf",
               "-",
               "-C",
               data.folder,
               "."};
  if (spec.argv.front().empty()) return absl::NotFoundError("there is no program tar in PATH");
  spec.environment = host.link.environment;
  spec.log_path = "/dev/null";
  spec.fds = {{archive.write(), 1}};
  ASSIGN_OR_RETURN(const std::unique_ptr<Process> tar, Process::Start(spec));
  archive.CloseWrite();
  std::string buffer(kChunkBytes, '\0');
  int64_t sent = 0, told = 0;
  bool taken = true;
  on_bytes(0);
  for (;;) {
    const ssize_t n = read(archive.read(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read from tar");
    if (n == 0) break;
    taken = talk.Write({buffer.data(), static_cast<size_t>(n)});
    if (!taken) break;
    sent += n;
    if (sent - told < kTellBytes) continue;
    told = sent;
    on_bytes(sent);
  }
  archive.CloseRead();
  talk.EndInput();
  const ExitStatus exit = Ended(*tar);
  if (exit.ok() || !taken) return absl::OkStatus();  // the host says why
  return absl::FailedPreconditionError(
      fmt::format("{} cannot be read whole, or changes meanwhile", data.folder));
}

absl::Status SendTo(const RunHost& host, const std::string& root, const DataSet& data,
                    const std::function<void(int64_t)>& on_bytes) {
  ASSIGN_OR_RETURN(const auto talk, Conversation::Start(host, Script(root, data)));
  const absl::StatusOr<std::string> line = talk->Line();
  RETURN_IF_ERROR(line.status());
  if (*line == kThere) return absl::OkStatus();
  int64_t free_kib = 0;
  if (!line->starts_with(kMissing) || !absl::SimpleAtoi(line->substr(kMissing.size()), &free_kib)) {
    return absl::FailedPreconditionError(*line);
  }
  if (free_kib < data.bytes / 1024) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} MB are free in {} and the data has {} MB: make room, or take machines with larger "
        "disks",
        free_kib >> 10, root, data.bytes >> 20));
  }
  const absl::Status written = WriteArchive(data, host, *talk, on_bytes);
  talk->EndInput();
  const absl::StatusOr<std::string> end = talk->Line();
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(end.status());
  return *end == kThere ? absl::OkStatus() : absl::FailedPreconditionError(*end);
}

std::string Megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", double(bytes) / 1e6); }

}  // namespace

absl::StatusOr<DataSet> MeasureData(const std::string& value, const std::string& folder) {
  DataSet data{.value = value, .folder = folder};
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, fs::directory_options::follow_directory_symlink,
                                      error);
  for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
    struct stat about {};
    if (stat(it->path().c_str(), &about) != 0) {
      return ErrnoStatus(errno, it->path().string() + ": cannot be read");
    }
    if (!S_ISREG(about.st_mode)) continue;
    data.bytes += about.st_size;
    files.push_back(fmt::format("{}\t{}\t{}.{:09}\n",
                                it->path().lexically_relative(folder).string(), about.st_size,
                                about.st_mtim.tv_sec, about.st_mtim.tv_nsec));
  }
  if (error) return ErrnoStatus(error.value(), folder + ": cannot be listed");
  data.files = std::ssize(files);
  std::ranges::sort(files);
  std::string all;
  for (const std::string& file : files) all += file;
  data.stamp = fmt::format("{:08x}-{}-{}", Crc32c(all), data.files, data.bytes);
  return data;
}

absl::Status SendData(const RunHost& host, const std::string& root, const DataSet& data,
                      const std::function<void(int64_t)>& on_bytes) {
  const absl::Status sent = SendTo(host, root, data, on_bytes);
  if (sent.ok()) return sent;
  return absl::Status(sent.code(), fmt::format("host {}: data {}: {}", host.link.name, data.value,
                                               std::string(sent.message())));
}

absl::StatusOr<std::unique_ptr<DataSending>> DataSending::Start(const std::vector<RunHost>& hosts,
                                                                const std::string& root,
                                                                const std::vector<DataSet>& sets) {
  std::unique_ptr<DataSending> sending(new DataSending(sets));
  for (const DataSet& data : sending->sets_) {
    for (const RunHost& host : hosts) {
      One one{.host = host.link.name, .data = &data};
      ASSIGN_OR_RETURN(one.task, SideTask::Start([&](const SideTask::Tell& tell) {
                         signal(SIGPIPE, SIG_IGN);
                         const absl::Status sent = SendData(host, root, data, [&](int64_t bytes) {
                           tell(fmt::format("{}", bytes));
                         });
                         tell(sent.ok() ? std::string(kThere)
                                        : std::string(kFailed) + std::string(sent.message()));
                       }));
      sending->all_.push_back(std::move(one));
    }
  }
  return sending;
}

absl::StatusOr<bool> DataSending::Look(One& one) {
  bool done = false;
  const bool runs = one.task->Read([&](const std::string& line) {
    if (line.starts_with(kFailed)) one.failed = line.substr(kFailed.size());
    if (line == kThere) done = true;
    if (int64_t sent = 0; absl::SimpleAtoi(line, &sent)) one.sent = sent;
  });
  if (!one.failed.empty()) return absl::FailedPreconditionError(one.failed);
  if (!runs && !done) {
    return absl::UnavailableError(
        fmt::format("host {}: something has ended the sending of data", one.host));
  }
  if (done && one.sent >= 0) one.sent = one.data->bytes;
  return done;
}

absl::StatusOr<bool> DataSending::Look(const Say& say) {
  const int64_t now = MonotonicMillis();
  if (said_ms_ == 0) said_ms_ = now;
  bool all_done = true;
  int64_t sent = 0, wanted = 0;
  for (One& one : all_) {
    if (one.task != nullptr) {
      ASSIGN_OR_RETURN(const bool done, Look(one));
      if (done) one.task.reset();
    }
    all_done &= one.task == nullptr;
    if (one.sent < 0) continue;
    sent += one.sent;
    wanted += one.data->bytes;
    if (!std::exchange(one.told, true)) {
      say(fmt::format("sending {} ({} files, {}) to {}", one.data->value, one.data->files,
                      Megabytes(one.data->bytes), one.host));
    }
  }
  if (!all_done && wanted > 0 && now - said_ms_ >= kSayMs) {
    said_ms_ = now;
    say(fmt::format("{} of {} of data sent", Megabytes(sent), Megabytes(wanted)));
  }
  return all_done;
}

absl::Status DataSending::Wait(const std::function<absl::Status()>& meanwhile, const Say& say) {
  for (;;) {
    ASSIGN_OR_RETURN(const bool done, Look(say));
    if (done) return absl::OkStatus();
    RETURN_IF_ERROR(meanwhile());
    std::vector<pollfd> fds;
    for (const One& one : all_) {
      if (one.task != nullptr) fds.push_back({one.task->fd(), POLLIN, 0});
    }
    poll(fds.data(), fds.size(), kLookMs);
  }
}

}  // namespace muster::cluster
