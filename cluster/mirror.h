// Mirror: the directory of this machine that stands for a job's directory in an object store.
//
//   ~/.muster/mirrors/run-1-0123abcd/job       the job's directory: what all roles and commands use
//                                    address   s3://bucket/jobs/run-1
//                                    lock      held by whoever brings or sends
//
// The newer of both counts, by state.json: what a killed launcher could not send is sent by the
// next. A process of its own (`launch upload`) sends while the job runs, and this one at the end.
// The nodes of a job never see the store, and need no login.
//
// Owned by the launcher's main thread; borrows what its options borrow.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/bucket.h"
#include "cluster/process.h"
#include "master/job_directory.h"

namespace muster::cluster {

struct MirrorOptions {
  std::string home;  // ~/.muster/mirrors
  ToolRunner tools;
  Patience patience;
  Say say;
};

class Mirror {
 public:
  // Of the folder at `address`, made where there is none yet. Fails for what is no address, where
  // no folder can be made, and where another process uses the mirror.
  static absl::StatusOr<std::unique_ptr<Mirror>> Open(const std::string& address,
                                                      MirrorOptions options);
  // Of which `job_dir` is the folder. NotFound: it is no mirror's.
  static absl::StatusOr<std::unique_ptr<Mirror>> OfFolder(const std::string& job_dir,
                                                          MirrorOptions options);
  // folder() of a mirror, whether it is there or not.
  static std::string FolderOf(const std::string& address, const std::string& home);
  // The address of which `job_dir` is the mirror; "" when it is none.
  static std::string AddressOf(const std::string& job_dir);
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  const std::string& folder() const { return folder_; }
  const std::string& address() const { return bucket_.address(); }

  // Makes folder() what the store has, unless it is newer. With `to_run`: fails when the job seems
  // to run on another machine.
  absl::Status Bring(bool to_run) const;
  // From now on a process sends what changes. `program`: launch itself.
  absl::Status StartSending(const std::string& program, std::vector<std::string> environment);
  // Ends that process, when it has sent what it is about to send, and sends the rest.
  absl::Status Finish();

 private:
  Mirror(const std::string& address, const std::string& root, MirrorOptions options);

  const MirrorOptions options_;
  const std::string root_, folder_;
  const Bucket bucket_;
  std::unique_ptr<master::JobLock> lock_;
  std::unique_ptr<Process> sender_;
  int while_open_ = -1;  // the sender ends when it is closed
};

// What `launch upload` is as the sender: sends `folder` to `bucket` again and again, until the
// other end of the pipe `while_open` is closed. Returns how the last time went.
absl::Status SendWhileOpen(const Bucket& bucket, const std::string& folder, int while_open,
                           int64_t pause_ms);

}  // namespace muster::cluster
