#include "master/data_agreement.h"

#include <fmt/format.h>

#include <vector>

namespace muster::master {

absl::Status DataAgreement::Check(const RoleId& trainer, const std::string& fingerprint) {
  if (fingerprint.empty()) return absl::OkStatus();
  if (first_.has_value()) {
    if (fingerprint == fingerprint_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("the data differs from that of {} (lists of samples {} and {}); give all hosts "
                    "the same",
                    RoleName(*first_), fingerprint, fingerprint_));
  }
  first_ = trainer;
  fingerprint_ = fingerprint;
  if (!run_.resume.has_value()) return absl::OkStatus();
  RunIdentity now = run_.identity;
  now.data_fingerprint = fingerprint;
  std::vector<std::string> told_before;
  return CheckResume(run_.resume->manifest, now, &told_before);
}

}  // namespace muster::master
