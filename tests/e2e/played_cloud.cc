#include "tests/e2e/played_cloud.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "telemetry/build_id.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {

PlayedCloud::PlayedCloud(std::string folder, const std::string& program, const std::string& needs,
                         const std::string& names)
    : folder_(std::move(folder)) {
  if (geteuid() != 0) {
    problem_ = "needs root for network namespaces";
    return;
  }
  if (Shell(needs + " && command -v curl").code != 0) {
    problem_ = fmt::format("needs {} and curl", names);
    return;
  }
  server_ = std::make_unique<Running>(std::vector<std::string>{
      "/usr/bin/env", "python3", program, folder_, BuildId(), std::getenv("MUSTER_BIN")});
  if (!server_->WaitFor("port ")) {
    const Ended ended = server_->Wait();
    server_.reset();
    problem_ = fmt::format("{} does not play: {}{}", program, ended.out, ended.err);
    return;
  }
  said_ = server_->out().substr(server_->out().rfind("port "));
  std::istringstream said(said_);
  std::string word;
  said >> word >> port_;
}

PlayedCloud::~PlayedCloud() {
  if (server_ == nullptr) return;
  server_->Signal(SIGTERM);
  server_->Wait();
}

std::string PlayedCloud::Ask(const std::string& path, const std::string& body) const {
  const std::string file = folder_ + "/question";
  WriteText(file, body);
  return Shell(fmt::format("curl -s {} http://127.0.0.1:{}/_{}",
                           body.empty() ? "" : "--data-binary @" + file, port_, path))
      .text;
}

std::vector<std::string> PlayedCloud::LinesOf(const std::string& path) const {
  std::istringstream stream(Ask(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> PlayedCloud::Machines() const {
  std::vector<std::string> machines = LinesOf("machines");
  for (std::string& line : machines) line.resize(std::min(line.find(' '), line.size()));
  return machines;
}

std::vector<std::string> PlayedCloud::SpotMachines() const {
  std::vector<std::string> machines = LinesOf("machines");
  std::erase_if(machines, [](const std::string& line) { return !line.ends_with(" spot"); });
  for (std::string& line : machines) line.resize(line.find(' '));
  return machines;
}

std::vector<std::string> PlayedCloud::Asked() const { return LinesOf("asked"); }
void PlayedCloud::SetFaults(const std::string& json) const { Ask("fault", json); }
void PlayedCloud::TakeBack(const std::string& machine, std::optional<int> notice_s) const {
  Ask("take", notice_s ? fmt::format("{} {}", machine, *notice_s) : machine);
}
void PlayedCloud::Kill(const std::string& machine) const { Ask("kill", machine); }
void PlayedCloud::SetSpeed(int times) const { Ask("speed", fmt::format("{}", times)); }
void PlayedCloud::SetSleepSpeed(int times) const { Ask("sleep", fmt::format("{}", times)); }

}  // namespace muster::e2e
