// NodeFiles: what a launcher asks of the files in a job's folder on a host, and the answers.
//
// Owned by one thread. Paths that lead outside of the folder are refused.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "cluster/node.pb.h"
#include "master/job_files.h"
#include "telemetry/status.h"

namespace muster::cluster {

class NodeFiles {
 public:
  using Send = std::function<void(const NodeEvent&)>;

  NodeFiles(std::string folder, Send send)
      : folder_(std::move(folder)), send_(std::move(send)), writer_(folder_) {}

  // ListFiles, GetFile or FilePart. Fails when it is not to be understood; what the disk refuses
  // is told to the launcher.
  absl::Status Handle(const NodeRequest& request);
  // Whether parts of files wait to be sent.
  bool sending() const { return !outgoing_.empty(); }
  // One part a turn, so that everything else is told meanwhile.
  void SendPart();

 private:
  struct Outgoing {
    std::string path;  // relative
    int64_t offset = 0;
    int64_t modified_ns = 0;
  };
  void List();
  absl::Status Get(const std::string& path);
  void Put(const FilePart& part);
  void Complain(const absl::Status& status);

  const std::string folder_;
  const Send send_;
  master::JobFileWriter writer_;
  std::deque<Outgoing> outgoing_;
};

}  // namespace muster::cluster
