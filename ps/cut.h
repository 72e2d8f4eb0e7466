// Cut and CutWriter: a server's state at one clock, gathered slice by slice by the shards, written
// by one thread of its own.
//
// Thread-safe. The writer outlives the shards that add to its cuts.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ps/checkpoint.h"
#include "ps/server.h"
#include "telemetry/mutex.h"

namespace muster::ps {

// One cut in the making. Shared by the slices that have not reached it.
struct Cut {
  Cut(int64_t at, std::string into, size_t slices)
      : clock(at), directory(std::move(into)), missing(slices) {}

  const int64_t clock;
  const std::string directory;

  Mutex mu;
  size_t missing ABSL_GUARDED_BY(mu);  // slices
  bool failed ABSL_GUARDED_BY(mu) = false;
  std::vector<SavedSlice> saved ABSL_GUARDED_BY(mu);
};

class CutWriter {
 public:
  // Borrows all; `events.on_cut` is called on the writer's thread, once per cut.
  CutWriter(const ParamTable& table, const Partition& partition,
            std::vector<std::string> slot_names, int server, const ServerEvents& events);
  // Writes what is complete, drops what is not, and joins.
  ~CutWriter();

  // A cut that waits for `slices` slices; of none, its empty part is written at once.
  std::shared_ptr<Cut> Begin(int64_t clock, const std::string& directory, size_t slices);
  // Adds a slice; the last one has the part written.
  void Add(const std::shared_ptr<Cut>& cut, SavedSlice slice);
  // Gives the cut up; only the first failure of a cut is reported.
  void Fail(const std::shared_ptr<Cut>& cut, const absl::Status& status);

 private:
  struct Job {
    std::shared_ptr<Cut> cut;
    absl::Status failure;
  };

  void Run();
  absl::Status Write(Cut& cut, const std::string& path) const;
  void Post(Job job);

  const ParamTable& table_;
  const Partition& partition_;
  const std::vector<std::string> slot_names_;
  const int server_;
  const ServerEvents& events_;

  Mutex mu_;
  CondVar work_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace muster::ps
