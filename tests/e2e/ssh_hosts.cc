#include "tests/e2e/ssh_hosts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "tests/e2e/programs.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {

SshHosts::SshHosts(int count, std::string folder)
    : count_(count),
      folder_(std::move(folder)),
      name_(fmt::format("mu{}", getpid())),
      subnet_(1 + getpid() % 250) {
  if (geteuid() != 0) {
    problem_ = "needs root for network namespaces";
    return;
  }
  std::string script = fmt::format(
      R"sh(# what a test that was killed has left
for ns in $(ip netns list | grep -o '^mu[0-9]*h[0-9]*'); do
  pid=${{ns#mu}}; pid=${{pid%h*}}
  [ -d /proc/$pid ] || {{ ip netns pids $ns | xargs -r kill -9; ip netns del $ns; ip link del mu$pid 2>/dev/null; }}
done
set -e
for tool in ip unshare ssh ssh-keygen /usr/sbin/sshd; do command -v $tool >/dev/null || {{ echo "needs $tool"; exit 1; }}; done
cd {0}; mkdir -p node /run/sshd
ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f host_key
cp key.pub authorized
printf '%s\n' 'HostKey {0}/host_key' 'AuthorizedKeysFile {0}/authorized' 'UsePAM no' 'StrictModes no' 'PidFile none' 'PasswordAuthentication no' 'PermitRootLogin yes' >sshd_config
ip link add {1} type bridge; ip addr add 10.78.{2}.254/24 dev {1}; ip link set {1} up
)sh",
      folder_, name_, subnet_);
  for (int i = 0; i < count_; ++i) {
    script += fmt::format(
        R"sh(ip netns add {ns}; ip link add {ns} type veth peer name eth0 netns {ns}; ip link set {ns} master {bridge}; ip link set {ns} up
ip -n {ns} addr add {address}/24 dev eth0; ip -n {ns} link set eth0 up; ip -n {ns} link set lo up
ip netns exec {ns} unshare -m --propagation private sh -c 'mount -t tmpfs none {folder}/node && {{ [ ! -e ~/.bashrc ] || mount --bind /dev/null ~/.bashrc; }} && exec /usr/sbin/sshd -D -f {folder}/sshd_config -o ListenAddress={address} -E {folder}/{ns}.log' >/dev/null 2>&1 </dev/null &
echo "{address} $(cut -d' ' -f1,2 host_key.pub)" >>known_hosts
)sh",
        fmt::arg("ns", Namespace(i)), fmt::arg("bridge", name_), fmt::arg("address", address(i)),
        fmt::arg("folder", folder_));
  }
  // The address may be fresh, and sshd still starting.
  for (int i = 0; i < count_; ++i) {
    script += fmt::format(
        "n=0; until ssh -F none -i key -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=1 "
        "-o UserKnownHostsFile=known_hosts {} true; do n=$((n+1)); [ $n -lt 30 ]; sleep 0.1; "
        "done\n",
        address(i));
  }
  const ShellOutput made = Shell(script);
  if (made.code != 0) problem_ = fmt::format("cannot make hosts: {}", made.text);
  WriteText(
      folder_ + "/ssh_config",
      fmt::format("Host *\n  UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n", known_hosts()));
}

SshHosts::~SshHosts() {
  std::string script;
  for (int i = 0; i < count_; ++i) {
    script += fmt::format(
        "ip netns pids {0} 2>/dev/null | xargs -r kill -9 2>/dev/null; ip netns del {0} "
        "2>/dev/null; ip link del {0} 2>/dev/null; ",
        Namespace(i));
  }
  Shell(script + fmt::format("ip link del {} 2>/dev/null", name_));
}

std::string SshHosts::Namespace(int host) const { return fmt::format("{}h{}", name_, host); }

std::string SshHosts::address(int host) const {
  return fmt::format("10.78.{}.{}", subnet_, host + 1);
}

std::string SshHosts::Cluster() const {
  return Cluster(
      fmt::format("directory: {}, programs: {}", node_folder(), std::getenv("MUSTER_BIN")));
}

std::string SshHosts::Cluster(const std::string& fields) const {
  std::string hosts;
  for (int i = 0; i < count_; ++i)
    hosts += fmt::format("{}{{host: {}}}", i > 0 ? ", " : "", address(i));
  return fmt::format(
      "provider: SSH, ssh: {{hosts: [{}], identityFile: {}, configFile: {}/ssh_config, {}}}", hosts,
      key(), folder_, fields);
}

void SshHosts::SetLink(int host, bool up) const {
  Shell(fmt::format("ip link set {} {}", Namespace(host), up ? "up" : "down"));
}

std::string SshHosts::On(int host, const std::string& command) const {
  return Shell(fmt::format("ssh -F {0}/ssh_config -i {0}/key -o BatchMode=yes {1} '{2}'", folder_,
                           address(host), command))
      .text;
}

std::vector<std::string> SshHosts::ProcessesOn(int host) const {
  std::istringstream lines(
      Shell(
          fmt::format("for p in $(ip netns pids {}); do cat /proc/$p/comm; done", Namespace(host)))
          .text);
  std::vector<std::string> names;
  for (std::string name; std::getline(lines, name);) {
    if (name != "sshd") names.push_back(name);
  }
  return names;
}

void SshHosts::ExpectQuiet() const {
  for (int host = 0; host < count_; ++host) {
    std::vector<std::string> left;
    for (int i = 0; i < 200; ++i) {
      left = ProcessesOn(host);
      if (left.empty()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(left, ::testing::IsEmpty()) << "host " << host;
  }
}

}  // namespace muster::e2e
