// JobLook: what a job is doing, as far as this machine knows: its entry, its directory's state.json
// and who holds the directory's lock.
//
// Values and pure text, but for Look, which reads the disk: thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/job_holder.h"
#include "cluster/job_registry.h"
#include "master/job_state.h"

namespace muster::cluster {

struct JobLook {
  JobEntry entry;
  // A state of a job (master/job_state.h), or
  //   LOST      it says that it runs, and nobody runs it: it died with its machine or launcher
  //   DETACHED  nobody here follows it, and it goes on elsewhere: state is as of then
  //   GONE      its directory is not there any more
  //   UNKNOWN   state.json cannot be read
  //   QUEUED    it waits for its turn (cluster/job_queue.h); there is no state yet
  std::string shown;
  std::optional<master::JobState> state;
  JobHolder holder;
  std::string problem;  // why it is GONE or UNKNOWN; its place in the queue
};

JobLook Look(const JobEntry& entry);

// For how long the job has cost something, from the beginning of its last run on; `now_ms` for one
// that goes on.
int64_t RunMillis(const JobLook& look, int64_t now_ms);
// By the catalogue; nullopt when the price is not known.
std::optional<double> DollarsSoFar(const JobLook& look, int64_t now_ms);

// One line per job under a line of names.
std::string JobTable(const std::vector<JobLook>& looks, int64_t now_ms);
// Everything that is known of a job, one fact a line.
std::string DescribeJob(const JobLook& look, int64_t now_ms);

}  // namespace muster::cluster
