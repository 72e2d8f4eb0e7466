#include "cluster/host_steward.h"

#include <fmt/format.h>

namespace muster::cluster {

absl::StatusOr<std::string> AddressOf(const RunHost& host, const NodeHello& hello) {
  std::string address = host.address.empty() ? hello.address() : host.address;
  if (address.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("host {}: it does not say at which address it was reached: write it in {}",
                    host.link.name, host.address_field));
  }
  if (address.find(':') != std::string::npos) address = "[" + address + "]";
  return address;
}

}  // namespace muster::cluster
