// RemoteFiles: a role's way to the files of its job's directory, whether its host has the master's
// one or another.
//
// Paths are absolute; those that set-ups tell are in the master's directory. Thread-safe; calls
// block.
#pragma once

#include <cstdint>
#include <string>

#include "master/control.pb.h"
#include "master/roles.h"
#include "telemetry/status.h"

namespace muster::master {

// Which folder of which running host `directory` is; "" when it cannot be told.
std::string FolderId(const std::string& directory);

class RemoteFiles {
 public:
  // Borrows what `options` borrows.
  RemoteFiles(const RoleOptions& options, const JobPlace& place);

  // Where `path` lies on this host.
  std::string Here(const std::string& path) const;
  // Where the master has what lies at `path` on this host, once it was sent.
  std::string There(const std::string& path) const;
  // Has the file at `path` on this host, as the master's has it. Nothing where the hosts share the
  // directory.
  absl::Status Bring(const std::string& path) const;
  // Has what lies at `path` of this host (of Here) in the master's directory, too.
  absl::Status Send(const std::string& path) const;

 private:
  rpc::Transport& transport_;
  const std::string master_address_;
  rpc::Hello self_;
  const JobPlace place_;
  const std::string root_;  // on this host
  const bool shared_;
};

}  // namespace muster::master
