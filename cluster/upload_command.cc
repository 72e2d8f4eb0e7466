#include "cluster/upload_command.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <utility>

#include "cluster/job_registry.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] = R"(usage: launch upload JOB

Sends the directory of a job to the object store where its job file has it (jobDir: s3://… or
gs://…). launch does so itself while the job runs and at its end: this is for when it could not.
JOB: an id, the beginning of one, or the directory that launch has named.
)";
constexpr int64_t kPauseMs = 30'000;
constexpr std::string_view kWhileOpen = "--while-open=";

absl::StatusOr<int> Upload(const CommandContext& context, const std::string& registry,
                           MirrorOptions options) {
  const std::vector<std::string>& words = context.words;
  int while_open = -1;
  if (words.size() == 2 && words[0].starts_with(kWhileOpen) &&
      absl::SimpleAtoi(words[0].substr(kWhileOpen.size()), &while_open)) {
    const std::string address = Mirror::AddressOf(words[1]);
    if (address.empty()) return absl::NotFoundError("this belongs to no object store: " + words[1]);
    const Bucket bucket(address, options.tools, options.patience);
    return SendWhileOpen(bucket, words[1], while_open, kPauseMs).ok() ? kSucceeded : kJobFailed;
  }
  if (words.size() != 1 || words[0].starts_with('-')) {
    return absl::InvalidArgumentError(
        "write launch upload JOB, with a JOB of launch jobs list or a directory");
  }
  ASSIGN_OR_RETURN(const JobEntry entry, JobRegistry(registry).Find(words[0]));
  ASSIGN_OR_RETURN(const std::unique_ptr<Mirror> mirror,
                   Mirror::OfFolder(entry.job_dir, std::move(options)));
  const absl::Status sent = mirror->Finish();
  if (sent.ok()) return kSucceeded;
  fmt::print(context.err, "{}\n", std::string(sent.message()));
  return kJobFailed;
}

}  // namespace

int RunUploadCommand(const CommandContext& context, const std::string& registry,
                     MirrorOptions options) {
  if (context.words.size() == 1 && (context.words[0] == "--help" || context.words[0] == "-h")) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  const absl::StatusOr<int> code = Upload(context, registry, std::move(options));
  if (code.ok()) return *code;
  fmt::print(context.err, "{}\n", std::string(code.status().message()));
  return kWrongInput;
}

}  // namespace muster::cluster
