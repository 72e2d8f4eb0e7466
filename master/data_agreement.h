// DataAgreement: whether all trainers read the same data, which is that of the checkpoint that the
// run goes on from.
//
// Owned by one thread (the coordinator's).
#pragma once

#include <optional>
#include <string>

#include "master/membership.h"
#include "master/run_start.h"
#include "telemetry/status.h"

namespace muster::master {

class DataAgreement {
 public:
  // `run` is borrowed.
  explicit DataAgreement(const RunStart& run) : run_(run) {}

  // The fingerprint of `trainer`'s data; "" where it has none. Fails when it differs from what is
  // known.
  absl::Status Check(const RoleId& trainer, const std::string& fingerprint);
  // What was told first; "" before.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  const RunStart& run_;
  std::optional<RoleId> first_;  // that has told
  std::string fingerprint_;      // its
};

}  // namespace muster::master
