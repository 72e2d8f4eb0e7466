#include "tests/e2e/gcp_cloud.h"

#include <fmt/format.h>

#include <sstream>
#include <utility>

namespace muster::e2e {

GcpCloud::GcpCloud(std::string folder)
    : PlayedCloud(std::move(folder), "tests/e2e/fake_gcp.py",
                  "command -v gcloud && command -v python3", "gcloud, python3") {
  WriteText(this->folder() + "/token", "testing");
}

std::map<std::string, std::string> GcpCloud::environment(const std::string& home) const {
  return {{"CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
           fmt::format("http://127.0.0.1:{}/compute/v1/", port())},
          {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", folder() + "/token"},
          {"CLOUDSDK_CONFIG", folder() + "/gcloud"},
          {"CLOUDSDK_CORE_CHECK_GCE_METADATA", "0"},
          {"HOME", home}};
}

std::string GcpCloud::Cluster() {
  return "provider: GCP, gcp: {project: muster-test, regions: [us-central1], user: root}";
}

std::string GcpCloud::FirstInstance() const { return Ask("instance"); }

std::string GcpCloud::StateOfMachine() const {
  std::istringstream machines(Ask("machines"));
  std::string name, address, state;
  machines >> name >> address >> state;
  return state;
}

}  // namespace muster::e2e
