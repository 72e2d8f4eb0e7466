#include "cluster/machine_key.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "telemetry/file.h"

namespace muster::cluster {

absl::StatusOr<MachineKey> MakeMachineKey(const std::string& folder, const std::string& job_id,
                                          const ToolRunner& tools) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error || chmod(folder.c_str(), 0700) != 0) {
    return ErrnoStatus(error ? error.value() : errno, "cannot make " + folder);
  }
  RemoveMachineKey(folder, job_id);
  const std::string base = fmt::format("{}/{}", folder, job_id), key = base + ".key";
  const auto made =
      tools({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "muster", "-f", key}, 30'000, "");
  if (absl::IsNotFound(made.status())) {
    return absl::NotFoundError(
        "there is no program ssh-keygen in PATH: install it (apt install openssh-client)");
  }
  RETURN_IF_ERROR(made.status());
  if (made->code != 0) {
    return absl::InternalError(fmt::format("ssh-keygen cannot make {}: {}", key, made->err));
  }
  MachineKey result;
  ASSIGN_OR_RETURN(result.public_key, ReadFile(key + ".pub"));
  while (result.public_key.ends_with('\n')) result.public_key.pop_back();
  const std::string config = base + ".ssh_config";
  RETURN_IF_ERROR(
      WriteFileAtomically(config, fmt::format("Host *\n  UserKnownHostsFile \"{}.known_hosts\"\n"
                                              "  StrictHostKeyChecking accept-new\n",
                                              base)));
  result.ssh.set_identity_file(key);
  result.ssh.set_config_file(config);
  return result;
}

void RemoveMachineKey(const std::string& folder, const std::string& job_id) {
  for (const char* suffix : {".key", ".key.pub", ".ssh_config", ".known_hosts"}) {
    unlink(fmt::format("{}/{}{}", folder, job_id, suffix).c_str());
  }
}

}  // namespace muster::cluster
