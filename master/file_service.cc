#include "master/file_service.h"

#include <fmt/format.h>

#include <utility>

#include "master/agent.h"
#include "master/job_files.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

constexpr size_t kPartBytes = size_t{4} << 20;

// What roles write; the rest of the directory is the master's alone.
bool IsTheirs(const std::string& path) {
  return IsPathInside(path) && (path.starts_with("checkpoints/") || path.starts_with("trace/"));
}

}  // namespace

class FileService::Handler : public rpc::StreamHandler {
 public:
  Handler(FileService& service, std::shared_ptr<rpc::Stream> stream)
      : service_(service),
        stream_(std::move(stream)),
        writer_(std::make_shared<JobFileWriter>(service.directory_)) {}

  void OnMessage(rpc::Message message) override {
    FileRequest request;
    if (absl::Status status = UnpackControl(message, &request); !status.ok()) {
      return stream_->Close(std::move(status));
    }
    service_.Post([directory = service_.directory_, stream = stream_, writer = writer_,
                   request = std::move(request)] {
      // A stream that is gone needs no answer.
      (void)stream->Send(PackControl(Answer(directory, *writer, request))).ok();
    });
  }
  void OnClosed(absl::Status) override { stream_.reset(); }

 private:
  static FileReply Answer(const std::string& directory, JobFileWriter& writer,
                          const FileRequest& request) {
    FileReply reply;
    absl::Status status;
    if (!IsTheirs(request.path())) {
      status = absl::InvalidArgumentError(fmt::format("{} is not a role's file", request.path()));
    } else if (request.put()) {
      status =
          writer.Write(request.path(), request.bytes(), request.last(), UnixMillis() * 1'000'000);
    } else {
      auto bytes = ReadPart(directory + "/" + request.path(), request.offset(), kPartBytes);
      status = bytes.status();
      if (bytes.ok()) {
        reply.set_last(bytes->size() < kPartBytes);
        reply.set_bytes(*std::move(bytes));
      }
    }
    if (!status.ok()) reply.set_error(std::string(status.message()));
    return reply;
  }

  FileService& service_;
  std::shared_ptr<rpc::Stream> stream_;
  const std::shared_ptr<JobFileWriter> writer_;  // used by the service's thread
};

FileService::FileService(std::string directory)
    : directory_(std::move(directory)), thread_([this] { Loop(); }) {}

FileService::~FileService() {
  {
    MutexLock lock(mu_);
    stop_ = true;
    arrived_.NotifyAll();
  }
  thread_.join();
}

std::unique_ptr<rpc::StreamHandler> FileService::Accept(std::shared_ptr<rpc::Stream> stream) {
  return std::make_unique<Handler>(*this, std::move(stream));
}

void FileService::Post(std::function<void()> task) {
  MutexLock lock(mu_);
  tasks_.push_back(std::move(task));
  arrived_.NotifyOne();
}

void FileService::Loop() {
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mu_);
      while (tasks_.empty() && !stop_) arrived_.Wait(mu_);
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace muster::master
