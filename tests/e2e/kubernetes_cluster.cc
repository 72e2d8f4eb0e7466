#include "tests/e2e/kubernetes_cluster.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "tests/e2e/programs.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {
namespace {

std::vector<std::string> Lines(const std::string& text) {
  std::istringstream lines(text);
  std::vector<std::string> all;
  for (std::string line; std::getline(lines, line);) all.push_back(line);
  return all;
}

constexpr char kConfiguration[] = R"(apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "http://127.0.0.1:{}"}}}}]
users: [{{name: tester, user: {{token: secret}}}}]
contexts: [{{name: test, context: {{cluster: test, user: tester, namespace: default}}}}]
current-context: test
)";

}  // namespace

KubernetesCluster::KubernetesCluster(std::string folder, const std::string& more)
    : folder_(std::move(folder)), name_(fmt::format("mk{}", getpid())) {
  if (geteuid() != 0) {
    problem_ = "needs root for network namespaces";
    return;
  }
  const ShellOutput tools = Shell(
      R"sh(# what a test that was killed has left
for ns in $(ip netns list | grep -o '^mk[0-9]*p[0-9]*'); do
  pid=${ns#mk}; pid=${pid%p*}
  [ -d /proc/$pid ] || { ip netns pids $ns | xargs -r kill -9; ip netns del $ns; ip link del mk$pid 2>/dev/null; }
done
for tool in kubectl ip nsenter unshare python3; do command -v $tool >/dev/null || { echo "needs $tool"; exit 1; }; done
)sh");
  if (tools.code != 0) {
    problem_ = tools.text;
    return;
  }
  std::filesystem::create_directories(home());
  std::string command = fmt::format(
      "exec python3 tests/e2e/kubernetes/api_server.py --bridge {} --subnet {} --home {} {}", name_,
      1 + getpid() % 250, home(), more);
  for (int i = 0; i < 4; ++i) command += " --node cpu=4,memory=16Gi";
  server_ = popen(fmt::format("{0} >{1}/port 2>{1}/server.log", command, folder_).c_str(), "we");
  const ShellOutput port =
      Shell(fmt::format("cd {}; n=0; until grep -s port port; do n=$((n+1)); [ $n -lt 100 ] || {{ "
                        "tail -3 server.log; "
                        "exit 1; }}; sleep 0.1; done",
                        folder_));
  if (port.code != 0) {
    problem_ = "cannot start a Kubernetes: " + port.text;
    return;
  }
  WriteText(folder_ + "/config",
            fmt::format(kConfiguration, std::stoi(port.text.substr(sizeof("port")))));
}

KubernetesCluster::~KubernetesCluster() {
  // It ends, with its pods, at the end of its input.
  if (server_ != nullptr) pclose(server_);
}

std::map<std::string, std::string> KubernetesCluster::environment() const {
  return {{"KUBECONFIG", folder_ + "/config"}, {"KUBECACHEDIR", folder_ + "/cache"}};
}

std::string KubernetesCluster::Kubectl(const std::string& words) const {
  std::string variables;
  for (const auto& [name, value] : environment()) variables += name + "=" + value + " ";
  return Shell(variables + "kubectl " + words).text;
}

std::vector<std::string> KubernetesCluster::Objects() const {
  return Lines(Kubectl("get jobs,services,pods -o name"));
}

std::vector<std::string> KubernetesCluster::Processes() const {
  // The holder is a shell, and what it waits for.
  return Lines(Shell(fmt::format("for ns in $(ip netns list | grep -o '^{}p[0-9]*'); do for p in "
                                 "$(ip netns pids $ns); do grep -vx -e sh -e sleep -e unshare "
                                 "/proc/$p/comm; done; done 2>/dev/null",
                                 name_))
                   .text);
}

void KubernetesCluster::Change(const std::string& json) const {
  WriteText(folder_ + "/change", json);
  Kubectl(fmt::format("create --raw /test -f {}/change", folder_));
}

std::string KubernetesCluster::Log() const { return Kubectl("get --raw /test"); }

}  // namespace muster::e2e
