#include "cluster/machine_key.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "cluster/run_keys.h"
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

absl::StatusOr<std::string> ReadPublicKey(const Ssh& ssh) {
  ASSIGN_OR_RETURN(std::string key, ReadFile(ssh.identity_file() + ".pub"));
  while (key.ends_with('\n')) key.pop_back();
  return key;
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
  result.ssh = SshWith(base);
  ASSIGN_OR_RETURN(result.public_key, ReadPublicKey(result.ssh));
  RETURN_IF_ERROR(WriteFileAtomically(
      result.ssh.config_file(), fmt::format("Host *\n  UserKnownHostsFile \"{}.known_hosts\"\n"
                                            "  StrictHostKeyChecking accept-new\n",
                                            base)));
  return result;
}

absl::StatusOr<MachineKey> FindMachineKey(const std::string& folder, const std::string& job_id) {
  MachineKey key;
  key.ssh = SshWith(BaseOf(folder, job_id));
  for (const std::string& path : {key.ssh.identity_file(), key.ssh.config_file()}) {
    if (access(path.c_str(), R_OK) != 0) return ErrnoStatus(errno, "cannot read " + path);
  }
  ASSIGN_OR_RETURN(key.public_key, ReadPublicKey(key.ssh));
  return key;
}

void RemoveMachineKey(const std::string& folder, const std::string& job_id) {
  for (const char* suffix : {".key", ".key.pub", ".ssh_config", ".known_hosts"}) {
    unlink(fmt::format("{}/{}{}", folder, job_id, suffix).c_str());
  }
  RemoveRunKeys(folder, job_id);
}

}  // namespace muster::cluster
