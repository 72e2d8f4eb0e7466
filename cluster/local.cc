#include "cluster/local.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "cluster/job_run.h"
#include "cluster/local_processes.h"
#include "cluster/local_record.h"
#include "master/job_directory.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::JobLock;

absl::StatusOr<std::unique_ptr<JobLock>> Prepare(const LocalJob& job, const LocalOptions& options) {
  const JobDirectory dir(job.job_dir);
  RETURN_IF_ERROR(master::CreateJobDirectory(dir));
  const int64_t now = UnixMillis();
  ASSIGN_OR_RETURN(std::unique_ptr<JobLock> lock, JobLock::Take(dir, now));
  NoteJob(job, options, /*stays=*/false, now);
  RETURN_IF_ERROR(WriteFirstRecord(job, dir, now));
  return lock;
}

}  // namespace

void Tell(const LocalOptions& options, const std::string& line) {
  const std::string text = line + "\n";
  (void)!write(options.out_fd, text.data(), text.size());
}

int ExitCodeOf(const absl::StatusOr<int>& code, const LocalOptions& options) {
  if (code.ok()) return *code;
  const std::string text = fmt::format("error: {}\n", std::string(code.status().message()));
  (void)!write(options.err_fd, text.data(), text.size());
  return 2;
}

int RunLocal(const LocalJob& job, const LocalOptions& options) {
  const absl::StatusOr<std::unique_ptr<JobLock>> lock = Prepare(job, options);
  if (!lock.ok()) return ExitCodeOf(lock.status(), options);
  const auto processes = LocalProcesses::Make(options.program_dir, options.environment);
  if (!processes.ok()) return ExitCodeOf(processes.status(), options);
  (*processes)->GiveLock((*lock)->fd());
  (*processes)->WatchUse(job.idle);
  return RunJobRoles(job, options, /*places=*/{}, **processes);
}

}  // namespace muster::cluster
