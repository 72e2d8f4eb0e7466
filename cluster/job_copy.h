// JobCopy: keeps a job's directory on the launcher's machine like that of the master's host while
// the job runs, so that what it has learnt outlives the host: state.json every two seconds; every
// ten, once the last ones are here, other files that are new there. Of checkpoints the newest
// alone: its manifest comes when all that it names has come, as it is what makes it one.
//
// Asks one file after the other of a host that answers in its own time; never blocks. Owned by the
// launcher's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "cluster/node.pb.h"
#include "master/job_files.h"
#include "telemetry/status.h"

namespace muster::cluster {

class JobCopy {
 public:
  // How the host is asked: answered by OnFiles and OnPart.
  struct Host {
    std::function<void()> list;
    std::function<void(const std::string& path)> get;
  };
  JobCopy(std::string job_dir, Host host)
      : job_dir_(std::move(job_dir)), host_(std::move(host)), writer_(job_dir_) {}

  // Asks for what it is time for.
  void Tick(int64_t now_ms);
  // Asks for nothing more until the next Tick.
  void Pause() {
    paused_ = true;
    manifest_.clear();
  }
  // Whether nothing that it has asked for is still to come.
  bool idle() const { return !listing_ && asked_.empty(); }

  // The host's answers. False: somebody else has asked. What cannot be written, or is not there any
  // more, is asked for again with the next list.
  bool OnFiles(const FileList& files);
  bool OnPart(const FilePart& part);

 private:
  void Ask(const std::string& path);

  const std::string job_dir_;
  const Host host_;
  master::JobFileWriter writer_;
  int64_t state_ms_ = 0, list_ms_ = 0;  // when last asked for
  bool listing_ = false, paused_ = false;
  std::set<std::string> asked_;  // files
  // The newest checkpoint's, as long as it is to come: when what it names has come.
  std::string manifest_;
  bool failed_ = false;          // something that it names
  std::set<std::string> there_;  // files, by the last list
};

// Removes checkpoints of `job_dir`, whose files are `here`, that are not `there`, on the master's
// host: it has dropped them. Logs, locks and the like stay.
void RemoveDroppedCheckpoints(const std::string& job_dir,
                              const std::map<std::string, master::JobFile>& here,
                              const std::set<std::string>& there);

}  // namespace muster::cluster
