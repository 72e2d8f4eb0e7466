// The keeper of a job on one host: a process of its own (cluster/keeper_process.h) that owns the
// job's roles there and the lock of its folder, serves one launcher at a time over a socket
// (cluster/launcher_connection.h), and goes on by itself when that one leaves or is gone
// (cluster/unattended.h). Roles never outlive it.
//
// Owned by the process's main thread. See cluster/node.proto.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/local_processes.h"
#include "cluster/notice.h"
#include "cluster/systemd_scope.h"

namespace muster::cluster {

struct NodeOptions {
  std::string program_dir;               // where master, worker and ps lie
  std::vector<std::string> environment;  // "NAME=value": what roles get beside their own
  std::string home;                      // what "~" stands for
  std::string build_id;
  std::string address;  // of this host, for others; may be ""
  int in_fd = 0, out_fd = 1;
  std::string metadata = kMetadataAddress;  // where notices are asked for
  int64_t notice_pause_ms = kNoticePauseMs;
  SystemdPlaces systemd = {};
  int64_t silence_ms = 30'000;  // of the launcher, after which it is taken for gone
  // Of a keeper that begins with a host, which is given back when it has ended: for a launcher to
  // come first, and for somebody to fetch what a job that was left has written.
  int64_t first_ms = 60'000, fetch_ms = 900'000;
};

// Serves those who come to `listener` until nothing is left to do and nobody is here. `with_host`:
// it begins with a host, which is given back when it has ended. PRECONDITION: this process has one
// thread.
void RunKeeper(const NodeOptions& options, LocalProcesses& processes, int listener, bool with_host);

}  // namespace muster::cluster
