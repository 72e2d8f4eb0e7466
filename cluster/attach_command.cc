#include "cluster/attach_command.h"

#include <fmt/format.h>

#include "cluster/printable.h"
#include "configs/job_yaml.h"
#include "master/job_directory.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch attach JOB

Follows a job that goes on without its launcher, as the launch that has started it did. JOB is an id of
launch jobs list, the beginning of one, or a job directory: any machine that has the directory and
reaches the job's hosts will do.
)";

constexpr int64_t kMaxJobFileBytes = 4 << 20;

int Complain(const CommandContext& context, const absl::Status& status) {
  fmt::print(context.err, "{}\n", std::string(status.message()));
  return kWrongInput;
}

}  // namespace

absl::StatusOr<Job> ReadJobOf(const std::string& job_dir) {
  const std::string path = master::JobDirectory(job_dir).job_yaml();
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxJobFileBytes));
  JobDraft draft;
  if (!ReadJobYaml(text, path, &draft) || !draft.problems.empty()) {
    const std::string problems = draft.problems.Text();
    return absl::InvalidArgumentError(
        fmt::format("{} is not as launch has written it: {}", path,
                    Printable(problems.substr(0, problems.find('\n')))));
  }
  draft.job.mutable_training_input()->set_job_dir(job_dir);
  return draft.job;
}

int Attach(const JobEntry& entry, const CommandContext& context, const AttachToJob& attach,
           bool cancel) {
  const auto job = ReadJobOf(entry.job_dir);
  return job.ok() ? attach(*job, cancel) : Complain(context, job.status());
}

int RunAttachCommand(const CommandContext& context, const std::string& registry,
                     const JobQueue& queue, const AttachToJob& attach) {
  const std::vector<std::string>& words = context.words;
  if (words.size() == 1 && (words[0] == "--help" || words[0] == "-h")) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  if (words.size() != 1 || words[0].starts_with('-')) {
    return Complain(context,
                    absl::InvalidArgumentError(
                        "write launch attach JOB, with a JOB of launch jobs list or a directory"));
  }
  const auto entry = JobRegistry(registry).Find(words[0]);
  if (const auto queued =
          queue.FindWaiting(words[0], /*beginning=*/absl::IsNotFound(entry.status()))) {
    return Complain(context, absl::FailedPreconditionError(fmt::format(
                                 "{0} waits for its turn, so there is nothing to follow yet: "
                                 "launch jobs describe {0} shows its place",
                                 queued->job_id)));
  }
  return entry.ok() ? Attach(*entry, context, attach, /*cancel=*/false)
                    : Complain(context, entry.status());
}

}  // namespace muster::cluster
