// NodeServer: what `launch node` does on a host: starts the roles that a launcher asks for over its
// standard input, tells what becomes of them over its standard output, and takes them along when
// the launcher, or the way to it, is gone.
//
// Owned by the process's main thread. See cluster/node.proto.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::cluster {

struct NodeOptions {
  std::string program_dir;               // where master, worker and ps lie
  std::vector<std::string> environment;  // "NAME=value": what roles get beside their own
  std::string home;                      // what "~" stands for
  std::string build_id;
  std::string address;  // of this host, for others; may be ""
  int in_fd = 0, out_fd = 1;
  int64_t silence_ms = 30'000;  // of the launcher, after which it is taken for gone
};

// Serves until the launcher closes its end, falls silent or says what cannot be understood. All
// roles have ended when it returns the exit code: 0 unless the last.
int ServeNode(const NodeOptions& options);

}  // namespace muster::cluster
