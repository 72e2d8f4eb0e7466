// NodeLink: the launcher's end of one `launch node`, reached through a command of the launcher's
// (ssh …) whose standard input and output are the way there.
//
// Before frames flow the command talks in lines that begin with "muster: ", so that whatever a
// shell of the host prints first does no harm:
//
//   ◀ muster: missing KIB    the programs are not there; so much room is
//   ▶ BYTES\n and a tar archive of that size, compressed by gzip
//   ◀ muster: ready          frames follow (cluster/node.proto)
//
// Owned by the launcher's main thread; never blocks.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/node.pb.h"
#include "cluster/node_wire.h"
#include "cluster/process.h"
#include "telemetry/status.h"

namespace muster::cluster {

class NodeLink {
 public:
  struct Options {
    std::string name;               // of the host, for messages
    std::vector<std::string> argv;  // [0]: path of the program
    std::vector<std::string> environment;
    // What its command's stderr says, in one line, when it ends.
    std::function<std::string(const std::string& text)> explain;
  };
  // The programs of this build (cluster/bundle.h); asked at most once for each host.
  using Bundle = std::function<absl::StatusOr<std::shared_ptr<const std::string>>()>;

  static absl::StatusOr<std::unique_ptr<NodeLink>> Start(Options options, Bundle bundle);
  // To a host that is known not to be there.
  static std::unique_ptr<NodeLink> Missing(std::string name);
  ~NodeLink();
  NodeLink(const NodeLink&) = delete;
  NodeLink& operator=(const NodeLink&) = delete;

  const std::string& name() const { return options_.name; }
  // What the node said first; nullopt before.
  const std::optional<NodeHello>& hello() const { return hello_; }
  // Why there is no way to the node (any more); OK while there is.
  const absl::Status& status() const { return status_; }
  // Whether the programs are being sent.
  bool sending() const { return !queue_.empty(); }

  // Queues a request; nothing once the link is gone.
  void Send(const NodeRequest& request);
  void Watch(std::vector<pollfd>* fds) const;
  // Sends what can be sent and hands over every event that is there.
  void Pump(const std::function<void(const NodeEvent&)>& on_event);

 private:
  enum class Phase { kLines, kFrames };

  NodeLink(Options options, Bundle bundle)
      : options_(std::move(options)), bundle_(std::move(bundle)) {}
  void Write();
  void Read(const std::function<void(const NodeEvent&)>& on_event);
  absl::Status TakeLines(std::string_view bytes,
                         const std::function<void(const NodeEvent&)>& on_event);
  absl::Status TakeFrames(std::string_view bytes,
                          const std::function<void(const NodeEvent&)>& on_event);
  absl::Status SendBundle(int64_t free_kib);
  void Queue(std::shared_ptr<const std::string> bytes);
  // The command ended, or says nonsense.
  void Fail(const absl::Status& status);
  std::string Complaint() const;

  const Options options_;
  const Bundle bundle_;
  std::unique_ptr<Process> process_;
  int in_fd_ = -1, out_fd_ = -1, err_fd_ = -1;  // of the command; ours are the other ends
  Phase phase_ = Phase::kLines;
  std::string lines_;
  FrameReader reader_;
  std::deque<std::shared_ptr<const std::string>> queue_;
  size_t written_ = 0;  // of the first in the queue
  std::optional<NodeHello> hello_;
  absl::Status status_;
};

}  // namespace muster::cluster
