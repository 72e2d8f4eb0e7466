// The data of a job on its way to the hosts that lack it: the folders that flags of its module
// name, from this machine, through the command by which a host is reached.
//
// A host has the data when it has a folder of that very path, or when it was sent before and the
// folder here has not changed since. What is sent lies under `root`, by its name
// (worker/data_folder.h), and takes its place by rename when it is whole.
//
// Called by a process's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/host_steward.h"
#include "cluster/node_set.h"
#include "cluster/side_task.h"
#include "telemetry/status.h"

namespace muster::cluster {

// A folder of data on this machine.
struct DataSet {
  std::string value;  // as the flag names it: a path, or an address of which it is a copy
  std::string folder;
  int64_t files = 0, bytes = 0;
  std::string stamp;  // another one when any file is
};

// Fails when there is no such folder, or parts of it cannot be read.
absl::StatusOr<DataSet> MeasureData(const std::string& value, const std::string& folder);

// Sends `data` to `host` where it lacks it. `on_bytes`: how much of the archive has gone, told now
// and then; not called where nothing is sent. Fails with what the host or ssh says.
absl::Status SendData(const RunHost& host, const std::string& root, const DataSet& data,
                      const std::function<void(int64_t)>& on_bytes);

// The same to several hosts at once, each in a process of its own, which ends with this.
class DataSending {
 public:
  // Begins. PRECONDITION: the process has one thread.
  static absl::StatusOr<std::unique_ptr<DataSending>> Start(const std::vector<RunHost>& hosts,
                                                            const std::string& root,
                                                            const std::vector<DataSet>& sets);

  // Looks how far it is: true once all have all of it. Says and fails as Wait does.
  absl::StatusOr<bool> Look(const Say& say);
  // Until all have all of it; says what goes and how far it is. Fails with what the first that
  // cannot have it says, and with what `meanwhile` does, which is called several times a second.
  absl::Status Wait(const std::function<absl::Status()>& meanwhile, const Say& say);

 private:
  struct One {
    std::string host;
    const DataSet* data;
    std::unique_ptr<SideTask> task;
    int64_t sent = -1;  // bytes; -1: nothing is to be sent, or it is not known yet
    std::string failed;
    bool told = false;
  };
  explicit DataSending(std::vector<DataSet> sets) : sets_(std::move(sets)) {}
  // True: it has come to its end.
  static absl::StatusOr<bool> Look(One& one);

  const std::vector<DataSet> sets_;
  std::vector<One> all_;
  int64_t said_ms_ = 0;
};

}  // namespace muster::cluster
