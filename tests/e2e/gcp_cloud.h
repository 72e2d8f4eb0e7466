// A Compute Engine for tests of provider GCP (tests/e2e/fake_gcp.py), with a machine behind each
// instance, for the real `gcloud`.
#pragma once

#include <map>
#include <string>

#include "tests/e2e/played_cloud.h"

namespace muster::e2e {

class GcpCloud : public PlayedCloud {
 public:
  explicit GcpCloud(std::string folder);

  // For whoever is to use it; `home`: of launches, which keep their journals there.
  std::map<std::string, std::string> environment(const std::string& home) const;
  // `cluster` of a job file, in flow style.
  static std::string Cluster();

  // What was asked for the first instance, in JSON.
  std::string FirstInstance() const;
  // Of the first machine, as the cloud calls it.
  std::string StateOfMachine() const;
};

}  // namespace muster::e2e
