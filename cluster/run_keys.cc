#include "cluster/run_keys.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cluster/job_registry.h"
#include "master/json_fields.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr int kSchemaVersion = 1;
constexpr int64_t kMaxBytes = 64 << 20;
constexpr char kWorker[] = "worker-";

std::string PathOf(const std::string& folder, const std::string& job_id) {
  return fmt::format("{}/{}.run_keys", folder, job_id);
}

}  // namespace

absl::Status KeepRunKeys(const std::string& folder, const std::string& job_id,
                         const RunKeys& keys) {
  master::Json identities = master::Json::object();
  for (const auto& [role, identity] : keys.identities) {
    if (role.starts_with(kWorker)) identities[role] = identity;
  }
  return WriteFileAtomically(PathOf(folder, job_id),
                             master::DumpJson({{"schemaVersion", kSchemaVersion},
                                               {"token", keys.token},
                                               {"identities", std::move(identities)}}));
}

absl::StatusOr<RunKeys> FindRunKeys(const std::string& folder, const std::string& job_id) {
  const std::string path = PathOf(folder, job_id);
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxBytes));
  RunKeys keys;
  // What does not read is not repeated: it may be a key.
  const absl::Status unreadable = absl::DataLossError(path + " does not read");
  const auto json = master::ParseJsonObject(text);
  if (!json.ok()) return unreadable;
  master::Fields fields(*json);
  if (!fields.ReadSchemaVersion(kSchemaVersion).ok()) return unreadable;
  for (const char* name : {"token", "identities"}) fields.Require(name);
  fields.Read("token", &keys.token);
  fields.Read("identities", &keys.identities);
  if (!fields.status().ok() || keys.token.empty()) return unreadable;
  return keys;
}

void RemoveRunKeys(const std::string& folder, const std::string& job_id) {
  unlink(PathOf(folder, job_id).c_str());
}

}  // namespace muster::cluster
