#include "cluster/machine_key.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "telemetry/file.h"

namespace muster::cluster {
namespace {

std::string BaseOf(const std::string& folder, const std::string& job_id) {
  return fmt::format("{}/{}", folder, job_id);
}

Ssh SshWith(const std::string& base) {
  Ssh ssh;
  ssh.set_identity_file(base + ".key");
  ssh.set_config_file(base + ".ssh_config");
  return ssh;
}

}  // namespace

absl::StatusOr<MachineKey> MakeMachineKey(const std::string& folder, const std::string& job_id,
                                          const ToolRunner& tools) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error || chmod(folder.c_str(), 0700) != 0) {
    return ErrnoStatus(error ? error.value() : errno, "cannot make " + folder);
  }
  RemoveMachineKey(folder, job_id);
  const std::string base = BaseOf(folder, job_id), key = base + ".key";
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
  result.ssh = SshWith(base);
  RETURN_IF_ERROR(WriteFileAtomically(
      result.ssh.config_file(), fmt::format("Host *\n  UserKnownHostsFile \"{}.known_hosts\"\n"
                                            "  StrictHostKeyChecking accept-new\n",
                                            base)));
  return result;
}

absl::StatusOr<Ssh> FindMachineKey(const std::string& folder, const std::string& job_id) {
  Ssh ssh = SshWith(BaseOf(folder, job_id));
  for (const std::string& path : {ssh.identity_file(), ssh.config_file()}) {
    if (access(path.c_str(), R_OK) != 0) return ErrnoStatus(errno, "cannot read " + path);
  }
  return ssh;
}

void RemoveMachineKey(const std::string& folder, const std::string& job_id) {
  for (const char* suffix : {".key", ".key.pub", ".ssh_config", ".known_hosts"}) {
    unlink(fmt::format("{}/{}{}", folder, job_id, suffix).c_str());
  }
}

}  // namespace muster::cluster
