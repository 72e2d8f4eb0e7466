#include "tests/e2e/aws_cloud.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <utility>

namespace muster::e2e {

AwsCloud::AwsCloud(std::string folder)
    : PlayedCloud(std::move(folder), "tests/e2e/fake_aws.py",
                  "python3 -c 'import moto.server' && command -v aws",
                  "moto (a Python package), aws") {
  std::istringstream told(said());
  std::string word, port, aws;
  told >> word >> port >> word >> aws;
  aws_folder_ = std::filesystem::path(aws).parent_path().string();
}

std::map<std::string, std::string> AwsCloud::environment(const std::string& home) const {
  return {{"AWS_ENDPOINT_URL", fmt::format("http://127.0.0.1:{}", port())},
          {"AWS_ACCESS_KEY_ID", "testing"},
          {"AWS_SECRET_ACCESS_KEY", "testing"},
          {"AWS_PAGER", ""},
          {"AWS_EC2_METADATA_DISABLED", "true"},
          {"HOME", home},
          {"PATH", fmt::format("{}:{}", aws_folder_, std::getenv("PATH"))}};
}

std::string AwsCloud::Cluster(const std::string& more) {
  return fmt::format(
      "provider: AWS, aws: {{regions: [us-east-1], image: ami-12c6146b, user: root{}{}}}",
      more.empty() ? "" : ", ", more);
}

void AwsCloud::Restart(const std::string& id) const { Ask("restart", id); }
std::vector<std::string> AwsCloud::AtStart() const { return LinesOf("at_start"); }
std::vector<std::string> AwsCloud::Schedules() const { return LinesOf("schedules"); }
void AwsCloud::SetLink(const std::string& id, bool up) const {
  Ask("link", fmt::format("{} {}", id, up ? "up" : "down"));
}
void AwsCloud::SetDriver(const std::string& text) const { Ask("driver", text); }

int AwsCloud::Slept() const {
  std::istringstream machines(Ask("machines"));
  std::string id, address, name;
  int slept = 0;
  machines >> id >> address >> name >> slept;
  return slept;
}

}  // namespace muster::e2e
