#include "tests/e2e/aws_cloud.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "telemetry/build_id.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {

namespace {

std::vector<std::string> LinesOf(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

AwsCloud::AwsCloud(std::string folder) : folder_(std::move(folder)) {
  if (geteuid() != 0) {
    problem_ = "needs root for network namespaces";
    return;
  }
  if (Shell("python3 -c 'import moto.server' && command -v aws && command -v curl").code != 0) {
    problem_ = "needs moto (a Python package), aws and curl";
    return;
  }
  const char* programs = std::getenv("MUSTER_BIN");
  server_ = std::make_unique<Running>(std::vector<std::string>{
      "/usr/bin/env", "python3", "tests/e2e/fake_aws.py", folder_, BuildId(), programs});
  if (!server_->WaitFor("port ")) {
    const Ended ended = server_->Wait();
    server_.reset();
    problem_ = fmt::format("cannot make an EC2: {}{}", ended.out, ended.err);
    return;
  }
  std::istringstream said(server_->out().substr(server_->out().rfind("port ")));
  std::string word, aws;
  said >> word >> port_ >> word >> aws;
  aws_folder_ = std::filesystem::path(aws).parent_path().string();
}

AwsCloud::~AwsCloud() {
  if (server_ == nullptr) return;
  server_->Signal(SIGTERM);
  server_->Wait();
}

std::map<std::string, std::string> AwsCloud::environment(const std::string& home) const {
  return {{"AWS_ENDPOINT_URL", fmt::format("http://127.0.0.1:{}", port_)},
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

std::string AwsCloud::Ask(const std::string& path, const std::string& body) const {
  const std::string file = folder_ + "/question";
  WriteText(file, body);
  return Shell(fmt::format("curl -s {} http://127.0.0.1:{}/_{}",
                           body.empty() ? "" : "--data-binary @" + file, port_, path))
      .text;
}

std::vector<std::string> AwsCloud::Machines() const {
  std::istringstream lines(Ask("machines"));
  std::vector<std::string> ids;
  for (std::string line; std::getline(lines, line);) ids.push_back(line.substr(0, line.find(' ')));
  return ids;
}

std::vector<std::string> AwsCloud::Asked() const { return LinesOf(Ask("asked")); }
std::vector<std::string> AwsCloud::AtStart() const { return LinesOf(Ask("at_start")); }
std::vector<std::string> AwsCloud::Schedules() const { return LinesOf(Ask("schedules")); }

std::vector<std::string> AwsCloud::SpotMachines() const {
  std::istringstream lines(Ask("machines"));
  std::vector<std::string> ids;
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with(" spot")) ids.push_back(line.substr(0, line.find(' ')));
  }
  return ids;
}

void AwsCloud::TakeBack(const std::string& id, std::optional<int> notice_s) const {
  Ask("take", notice_s ? fmt::format("{} {}", id, *notice_s) : id);
}

void AwsCloud::SetFaults(const std::string& json) const { Ask("fault", json); }
void AwsCloud::Kill(const std::string& id) const { Ask("kill", id); }
void AwsCloud::Restart(const std::string& id) const { Ask("restart", id); }
void AwsCloud::SetLink(const std::string& id, bool up) const {
  Ask("link", fmt::format("{} {}", id, up ? "up" : "down"));
}
void AwsCloud::SetSpeed(int times) const { Ask("speed", fmt::format("{}", times)); }
void AwsCloud::SetDriver(const std::string& text) const { Ask("driver", text); }
void AwsCloud::SetSleepSpeed(int times) const { Ask("sleep", fmt::format("{}", times)); }

int AwsCloud::Slept() const {
  std::istringstream machines(Ask("machines"));
  std::string id, address, name;
  int slept = 0;
  machines >> id >> address >> name >> slept;
  return slept;
}

}  // namespace muster::e2e
