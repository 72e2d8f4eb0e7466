// FileService: the job's directory for roles on hosts that do not have it: takes the parts of
// checkpoints and traces that they have written, and gives them those they resume from.
//
// Streams of service "files" (master/control.proto). Thread-safe; works on a thread of its own, so
// that no disk holds up other streams. Outlives the listener whose streams it serves.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::master {

class FileService {
 public:
  explicit FileService(std::string directory);
  ~FileService();
  FileService(const FileService&) = delete;
  FileService& operator=(const FileService&) = delete;

  std::unique_ptr<rpc::StreamHandler> Accept(std::shared_ptr<rpc::Stream> stream);

 private:
  class Handler;
  void Post(std::function<void()> task);
  void Loop();

  const std::string directory_;
  Mutex mu_;
  CondVar arrived_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace muster::master
