#include <fmt/format.h>

#include "rpc/transport.h"

namespace muster::rpc {
namespace {

// Takes the same time wherever the strings differ.
bool EqualSecrets(const std::string& a, const std::string& b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace

absl::Status CheckHello(const Hello& self, const Hello& peer) {
  const std::string who = fmt::format("{}-{}", peer.role, peer.index);
  if (peer.protocol_version != self.protocol_version) {
    return absl::FailedPreconditionError(
        fmt::format("{} speaks protocol {}, {}-{} speaks {}: start all roles from one build", who,
                    peer.protocol_version, self.role, self.index, self.protocol_version));
  }
  if (peer.build_id != self.build_id) {
    return absl::FailedPreconditionError(
        fmt::format("{} is of build {}, {}-{} is of build {}: start all roles from one build", who,
                    peer.build_id, self.role, self.index, self.build_id));
  }
  if (!EqualSecrets(peer.job_token, self.job_token)) {
    return absl::PermissionDeniedError(
        fmt::format("{} does not have the token of {}-{}'s job: it belongs to another job", who,
                    self.role, self.index));
  }
  return absl::OkStatus();
}

}  // namespace muster::rpc
