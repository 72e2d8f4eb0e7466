#include "tests/e2e/gcp_cloud.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include "telemetry/build_id.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {
namespace {

std::vector<std::string> FirstWords(const std::string& text) {
  std::istringstream lines(text);
  std::vector<std::string> words;
  for (std::string line; std::getline(lines, line);)
    words.push_back(line.substr(0, line.find(' ')));
  return words;
}

}  // namespace

GcpCloud::GcpCloud(std::string folder) : folder_(std::move(folder)) {
  if (geteuid() != 0) {
    problem_ = "needs root for network namespaces";
    return;
  }
  if (Shell("command -v gcloud && command -v curl && command -v python3").code != 0) {
    problem_ = "needs gcloud, curl and python3";
    return;
  }
  const char* programs = std::getenv("MUSTER_BIN");
  server_ = std::make_unique<Running>(std::vector<std::string>{
      "/usr/bin/env", "python3", "tests/e2e/fake_gcp.py", folder_, BuildId(), programs});
  if (!server_->WaitFor("port ")) {
    const Ended ended = server_->Wait();
    server_.reset();
    problem_ = fmt::format("cannot make a Compute Engine: {}{}", ended.out, ended.err);
    return;
  }
  std::istringstream said(server_->out().substr(server_->out().rfind("port ")));
  std::string word;
  said >> word >> port_;
  WriteText(folder_ + "/token", "testing");
}

GcpCloud::~GcpCloud() {
  if (server_ == nullptr) return;
  server_->Signal(SIGTERM);
  server_->Wait();
}

std::map<std::string, std::string> GcpCloud::environment(const std::string& home) const {
  return {{"CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
           fmt::format("http://127.0.0.1:{}/compute/v1/", port_)},
          {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", folder_ + "/token"},
          {"CLOUDSDK_CONFIG", folder_ + "/gcloud"},
          {"CLOUDSDK_CORE_CHECK_GCE_METADATA", "0"},
          {"HOME", home}};
}

std::string GcpCloud::Cluster() {
  return "provider: GCP, gcp: {project: muster-test, regions: [us-central1], user: root}";
}

std::string GcpCloud::Ask(const std::string& path, const std::string& body) const {
  const std::string file = folder_ + "/question";
  WriteText(file, body);
  return Shell(fmt::format("curl -s {} http://127.0.0.1:{}/_{}",
                           body.empty() ? "" : "--data-binary @" + file, port_, path))
      .text;
}

std::vector<std::string> GcpCloud::Machines() const { return FirstWords(Ask("machines")); }
std::string GcpCloud::Asked() const { return Ask("instance"); }
std::vector<std::string> GcpCloud::Actions() const { return FirstWords(Ask("asked")); }
std::vector<std::string> GcpCloud::SpotMachines() const {
  std::istringstream lines(Ask("machines"));
  std::vector<std::string> ids;
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with(" spot")) ids.push_back(line.substr(0, line.find(' ')));
  }
  return ids;
}

void GcpCloud::TakeBack(const std::string& id, std::optional<int> notice_s) const {
  Ask("take", notice_s ? fmt::format("{} {}", id, *notice_s) : id);
}

void GcpCloud::SetFaults(const std::string& json) const { Ask("fault", json); }
void GcpCloud::SetSpeed(int times) const { Ask("speed", fmt::format("{}", times)); }
void GcpCloud::SetSleepSpeed(int times) const { Ask("sleep", fmt::format("{}", times)); }

std::string GcpCloud::StateOfMachine() const {
  std::istringstream machines(Ask("machines"));
  std::string name, address, state;
  machines >> name >> address >> state;
  return state;
}

}  // namespace muster::e2e
