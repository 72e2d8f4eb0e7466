#include "cluster/bucket.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "cluster/aws.h"
#include "cluster/gcp.h"

namespace muster::cluster {
namespace {

// Of one command: a day is what a table of terabytes may take.
constexpr int64_t kTransferMs = 86'400'000;

struct Explanation {
  std::string_view said, text;
};
constexpr Explanation kNoBucket[] = {
    {"NoSuchBucket", "make it: aws s3 mb s3://BUCKET"},
    {"not found: 404", "make it: gcloud storage buckets create gs://BUCKET"},
    {"InvalidBucketName", "a bucket's name has 3 to 63 small letters, digits and '-'"},
};

absl::Status Judge(const ToolResult& result, absl::Status (*otherwise)(const ToolResult&)) {
  for (const Explanation& explanation : kNoBucket) {
    if (result.err.find(explanation.said) == std::string::npos) continue;
    const std::vector<std::string> lines = Lines(result.err);
    return absl::FailedPreconditionError(fmt::format("{} ({})", lines.back(), explanation.text));
  }
  return otherwise(result);
}

absl::Status JudgeS3(const ToolResult& result) { return Judge(result, JudgeAws); }

// NotFound is for the program.
constexpr auto kNoSuchFile = absl::StatusCode::kOutOfRange;

absl::Status JudgeGs(const ToolResult& result) {
  for (const char* said : {"matched no objects", "Did not find existing container"}) {
    if (result.err.find(said) != std::string::npos) {
      return absl::Status(kNoSuchFile, "there is no such file");
    }
  }
  // Before what is wrong it tells what it has done.
  ToolResult wrong = result;
  wrong.err.erase(0, std::min(wrong.err.find("ERROR:"), wrong.err.size()));
  return Judge(wrong.err.empty() ? result : wrong, JudgeGcloud);
}

}  // namespace

Bucket::Bucket(std::string_view address, ToolRunner tools, const Patience& patience)
    : address_(PlainAddress(address)),
      is_s3_(address.starts_with("s3://")),
      tool_(std::move(tools), patience, is_s3_ ? JudgeS3 : JudgeGs,
            is_s3_ ? "there is no program aws in PATH: install AWS's command line, for s3://"
                   : "there is no program gcloud in PATH: install Google Cloud's command line, for "
                     "gs://",
            kTransferMs) {}

absl::Status Bucket::Fetch(const std::string& name, const std::string& folder) const {
  const std::filesystem::path file = std::filesystem::path(folder) / name;
  std::error_code error;
  std::filesystem::remove(file, error);
  // aws cp cannot tell a bucket that is not there from a file.
  const absl::Status fetched =
      (is_s3_ ? tool_.Ask({"aws", "s3", "sync", "--only-show-errors", address_, folder, "--exclude",
                           "*", "--include", name})
              : tool_.Ask({"gcloud", "storage", "cp", fmt::format("{}/{}", address_, name),
                           file.string()}))
          .status();
  if (fetched.code() == kNoSuchFile) return absl::NotFoundError(fetched.message());
  // No such program.
  if (absl::IsNotFound(fetched)) return absl::FailedPreconditionError(fetched.message());
  RETURN_IF_ERROR(fetched);
  if (!std::filesystem::exists(file, error)) return absl::NotFoundError("there is no " + name);
  return absl::OkStatus();
}

absl::Status Bucket::Bring(const std::string& folder) const {
  const absl::Status brought = Copy(address_, folder, /*removing=*/true);
  if (brought.code() != kNoSuchFile) return brought;
  // As aws, to which a folder without files is one that is empty.
  return absl::OkStatus();
}

absl::Status Bucket::Send(const std::string& folder) const {
  RETURN_IF_ERROR(Copy(folder, address_, /*removing=*/false));
  return Copy(folder, address_, /*removing=*/true);
}

absl::Status Bucket::Copy(const std::string& from, const std::string& to, bool removing) const {
  // What lies in logs/coming is still on its way from another host.
  std::vector<std::string> words =
      is_s3_ ? std::vector<std::string>{"aws",       "s3",      "sync",      "--only-show-errors",
                                        from,        to,        "--exclude", "lock",
                                        "--exclude", "*.tmp.*", "--exclude", "logs/coming/*"}
             : std::vector<std::string>{"gcloud",
                                        "storage",
                                        "rsync",
                                        "--recursive",
                                        from,
                                        to,
                                        R"(--exclude=lock$,.*\.tmp\.,logs/coming/,.*_\.gstmp$)"};
  if (removing) {
    words.emplace_back(is_s3_ ? "--delete" : "--delete-unmatched-destination-objects");
  }
  return tool_.Ask(words).status();
}

}  // namespace muster::cluster
