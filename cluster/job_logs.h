// JobLogs: the logs of a job's roles as one text, in the order of time, and what is added to them.
//
// Owned by one thread. Reads <job-dir>/logs/ROLE-INDEX.log; a log that was moved aside goes on with
// its new file. Each of our lines begins with its time and role, so that none needs a mark.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace muster::cluster {

class JobLogs {
 public:
  // `role`: "worker-3"; "": all.
  JobLogs(std::string folder, std::string role)
      : folder_(std::move(folder)), role_(std::move(role)) {}

  // What has been written since the last call, by whole lines; lines without a time follow the one
  // before them in their file. Unfinished lines wait, unless `all`.
  std::string Take(bool all);
  // The roles that have a log now.
  std::vector<std::string> Roles() const;

 private:
  struct Tail {
    int64_t offset = 0;
    uint64_t inode = 0;
    std::string partial, time;
  };
  const std::string folder_, role_;
  std::map<std::string, Tail> tails_;  // by role
};

}  // namespace muster::cluster
