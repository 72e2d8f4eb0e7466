#include "master/remote_files.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <memory>
#include <optional>
#include <utility>

#include "master/agent.h"
#include "master/job_files.h"
#include "telemetry/file.h"
#include "telemetry/mutex.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

constexpr size_t kPartBytes = size_t{4} << 20;
constexpr int64_t kConnectMs = 10'000;
// For the master's disk.
constexpr std::chrono::seconds kReplyTime(120);

// The newest reply, which its stream's handler and the caller share.
struct Mailbox {
  Mutex mu;
  CondVar arrived;
  std::optional<absl::StatusOr<FileReply>> reply ABSL_GUARDED_BY(mu);

  void Put(absl::StatusOr<FileReply> value) {
    MutexLock lock(mu);
    reply = std::move(value);
    arrived.NotifyAll();
  }
};

class ReplyHandler : public rpc::StreamHandler {
 public:
  explicit ReplyHandler(std::shared_ptr<Mailbox> mailbox) : mailbox_(std::move(mailbox)) {}
  void OnMessage(rpc::Message message) override {
    FileReply reply;
    const absl::Status status = UnpackControl(message, &reply);
    if (!status.ok()) return mailbox_->Put(status);
    mailbox_->Put(std::move(reply));
  }
  void OnClosed(absl::Status status) override {
    mailbox_->Put(absl::UnavailableError(
        fmt::format("the master closed the link: {}", std::string(status.message()))));
  }

 private:
  const std::shared_ptr<Mailbox> mailbox_;
};

// One request at a time.
class FileLink {
 public:
  static absl::StatusOr<std::unique_ptr<FileLink>> Open(rpc::Transport& transport,
                                                        const std::string& master,
                                                        const rpc::Hello& self) {
    auto link = std::make_unique<FileLink>();
    ASSIGN_OR_RETURN(link->stream_,
                     transport.Connect(master, self, std::make_unique<ReplyHandler>(link->mailbox_),
                                       kConnectMs));
    return link;
  }
  ~FileLink() {
    if (stream_ != nullptr) stream_->Close();
  }

  absl::StatusOr<FileReply> Ask(const FileRequest& request) {
    RETURN_IF_ERROR(stream_->Send(PackControl(request)));
    const auto deadline = std::chrono::steady_clock::now() + kReplyTime;
    MutexLock lock(mailbox_->mu);
    while (!mailbox_->reply.has_value()) {
      if (!mailbox_->arrived.WaitUntil(mailbox_->mu, deadline)) {
        return absl::DeadlineExceededError("the master does not answer");
      }
    }
    absl::StatusOr<FileReply> reply = std::move(*mailbox_->reply);
    mailbox_->reply.reset();
    if (reply.ok() && !reply->error().empty()) return absl::UnavailableError(reply->error());
    return reply;
  }

 private:
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::shared_ptr<rpc::Stream> stream_;
};

// `path` without the folder that it lies in.
absl::StatusOr<std::string> Relative(const std::string& path, const std::string& folder) {
  if (!path.starts_with(folder + "/")) {
    return absl::InvalidArgumentError(fmt::format("{} is not in {}", path, folder));
  }
  return path.substr(folder.size() + 1);
}

}  // namespace

std::string FolderId(const std::string& directory) {
  struct stat info {};
  const auto boot = ReadFile("/proc/sys/kernel/random/boot_id");
  if (stat(directory.c_str(), &info) != 0 || !boot.ok()) return "";
  return fmt::format("{}:{}:{}", *boot, info.st_dev, info.st_ino);
}

RemoteFiles::RemoteFiles(const RoleOptions& options, const JobPlace& place)
    : transport_(*options.transport),
      master_address_(options.master_address),
      self_(options.self),
      place_(place),
      root_(options.job_dir.empty() ? place.directory() : options.job_dir),
      shared_(place.id().empty() || FolderId(root_) == place.id()) {
  self_.service = "files";
}

std::string RemoteFiles::Here(const std::string& path) const {
  const auto relative = Relative(path, place_.directory());
  return shared_ || !relative.ok() ? path : root_ + "/" + *relative;
}

std::string RemoteFiles::There(const std::string& path) const {
  const auto relative = Relative(path, root_);
  return shared_ || !relative.ok() ? path : place_.directory() + "/" + *relative;
}

absl::Status RemoteFiles::Bring(const std::string& path) const {
  if (shared_) return absl::OkStatus();
  FileRequest request;
  ASSIGN_OR_RETURN(*request.mutable_path(), Relative(path, place_.directory()));
  ASSIGN_OR_RETURN(const auto link, FileLink::Open(transport_, master_address_, self_));
  JobFileWriter writer(root_);
  for (bool last = false; !last;) {
    ASSIGN_OR_RETURN(const FileReply reply, link->Ask(request));
    last = reply.last();
    RETURN_IF_ERROR(writer.Write(request.path(), reply.bytes(), last, UnixMillis() * 1'000'000));
    request.set_offset(request.offset() + static_cast<int64_t>(reply.bytes().size()));
  }
  return absl::OkStatus();
}

absl::Status RemoteFiles::Send(const std::string& path) const {
  if (shared_) return absl::OkStatus();
  FileRequest request;
  request.set_put(true);
  ASSIGN_OR_RETURN(*request.mutable_path(), Relative(path, root_));
  ASSIGN_OR_RETURN(const auto link, FileLink::Open(transport_, master_address_, self_));
  for (int64_t offset = 0; !request.last(); offset += kPartBytes) {
    ASSIGN_OR_RETURN(*request.mutable_bytes(), ReadPart(path, offset, kPartBytes));
    request.set_last(request.bytes().size() < kPartBytes);
    RETURN_IF_ERROR(link->Ask(request).status());
  }
  return absl::OkStatus();
}

}  // namespace muster::master
