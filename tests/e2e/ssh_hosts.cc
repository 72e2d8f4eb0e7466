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

namespace {

// What becomes a host that runs systemd: arguments are its folder, sshd's address, and what it
// shares with this machine, programs and data.
constexpr const char* kBoot = R"sh(set -e
folder=$1 address=$2 programs=$3 data=$4
mkdir -p $folder/boot; mount -t tmpfs none $folder/boot; cd $folder/boot; mkdir changes work root
mount -t overlay none -o lowerdir=/,upperdir=changes,workdir=work root
cd root
for place in sys/fs/cgroup run tmp dev; do mkdir -p $place; done
mount -t proc none proc; mount -t sysfs none sys -o ro; mount -t cgroup2 none sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs none $place; done
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm; mount -t devpts none dev/pts -o newinstance,ptmxmode=0666; mount -t tmpfs none dev/shm; ln -s pts/ptmx dev/ptmx
mkdir -p .$folder .$data opt/muster
mount --bind $folder .$folder; mount --bind $data .$data; mount --bind $programs opt/muster
: >root/.bashrc
for user in stays goes; do chroot . useradd -m -s /bin/sh $user; done
mkdir -p var/lib/systemd/linger etc/systemd/system; touch var/lib/systemd/linger/stays
for unit in systemd-udevd systemd-udev-trigger systemd-sysctl systemd-modules-load systemd-binfmt systemd-random-seed; do
  ln -sf /dev/null etc/systemd/system/$unit.service
done
printf '%s
' '[Login]' KillUserProcesses=yes KillExcludeUsers= >etc/systemd/logind.conf
printf '%s
' '[Service]' RuntimeDirectory=sshd "ExecStart=/usr/sbin/sshd -D -f $folder/sshd_config -o ListenAddress=$address"   >etc/systemd/system/host-sshd.service
printf '%s
' '[Unit]' Requires=basic.target 'Wants=systemd-logind.service systemd-user-sessions.service host-sshd.service'   After=basic.target AllowIsolate=yes >etc/systemd/system/host.target
mkdir old; pivot_root . old; cd /; umount -l old
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=host.target --log-target=console
)sh";

}  // namespace

SshHosts::SshHosts(int count, std::string folder, bool systemd)
    : count_(count),
      systemd_(systemd),
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
for tool in ip unshare ssh ssh-keygen /usr/sbin/sshd{3}; do command -v $tool >/dev/null || {{ echo "needs $tool"; exit 1; }}; done
cd {0}; chmod a+rx .; mkdir -p node /run/sshd
ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f host_key
cp key.pub authorized
printf '%s\n' 'HostKey {0}/host_key' 'AuthorizedKeysFile {0}/authorized' 'UsePAM {4}' 'StrictModes no' 'PidFile none' 'PasswordAuthentication no' 'PermitRootLogin yes' >sshd_config
ip link add {1} type bridge; ip addr add 10.78.{2}.254/24 dev {1}; ip link set {1} up
)sh",
      folder_, name_, subnet_,
      systemd_ ? " /lib/systemd/systemd dbus-daemon pivot_root /lib/*/security/pam_systemd.so" : "",
      systemd_ ? "yes" : "no");
  if (systemd_) WriteText(folder_ + "/boot.sh", kBoot);
  for (int i = 0; i < count_; ++i) {
    script += fmt::format(
        R"sh(ip netns add {ns}; ip link add {ns} type veth peer name eth0 netns {ns}; ip link set {ns} master {bridge}; ip link set {ns} up
ip -n {ns} addr add {address}/24 dev eth0; ip -n {ns} link set eth0 up; ip -n {ns} link set lo up
ip netns exec {ns} unshare -m --propagation private sh -c '{first}' >{folder}/{ns}.log 2>&1 </dev/null &
echo "{address} $(cut -d' ' -f1,2 host_key.pub)" >>known_hosts
)sh",
        fmt::arg("ns", Namespace(i)), fmt::arg("bridge", name_), fmt::arg("address", address(i)),
        fmt::arg("folder", folder_), fmt::arg("first", FirstProcess(i)));
  }
  // The address may be fresh, and sshd still starting.
  for (int i = 0; i < count_; ++i) {
    script += fmt::format(
        "n=0; until ssh -F none -i key -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=1 "
        "-o UserKnownHostsFile=known_hosts {} true; do n=$((n+1)); [ $n -lt {} ]; sleep 0.1; "
        "done\n",
        address(i), systemd_ ? 300 : 30);
  }
  const ShellOutput made = Shell(script);
  if (made.code != 0) {
    problem_ = fmt::format("cannot make hosts: {}", made.text);
    for (int i = 0; systemd_ && i < count_; ++i) {
      problem_ += Contents(fmt::format("{}/{}.log", folder_, Namespace(i)));
    }
  }
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
  script += fmt::format("ip link del {} 2>/dev/null; ", name_);
  if (systemd_) {
    script += fmt::format(
        "unshare -m --propagation private sh -c 'mount -t cgroup2 none {}/cg; for i in $(seq 50); "
        "do find {}/cg/{}h* -depth -type d -exec rmdir {{}} + && break; sleep 0.1; done'",
        folder_, folder_, name_);
  }
  Shell(script);
}

std::string SshHosts::FirstProcess(int host) const {
  if (!systemd_) {
    return fmt::format(
        "mount -t tmpfs none {0}/node && {{ [ ! -e ~/.bashrc ] || mount --bind /dev/null "
        "~/.bashrc; }} && exec /usr/sbin/sshd -D -f {0}/sshd_config -o ListenAddress={1}",
        folder_, address(host));
  }
  // Processes of a control group of its own see it as the first.
  return fmt::format(
      "mkdir -p {0}/cg && mount -t cgroup2 none {0}/cg && mkdir {0}/cg/{1} && echo $$ "
      ">{0}/cg/{1}/cgroup.procs && exec unshare --fork --kill-child --pid --mount --uts --ipc "
      "--cgroup --propagation private sh {0}/boot.sh {0} {2} {3} {4}",
      folder_, Namespace(host), address(host), std::getenv("MUSTER_BIN"), SpeechData());
}

std::string SshHosts::Namespace(int host) const { return fmt::format("{}h{}", name_, host); }

std::string SshHosts::address(int host) const {
  return fmt::format("10.78.{}.{}", subnet_, host + 1);
}

std::string SshHosts::Cluster() const {
  return Cluster(
      fmt::format("directory: {}, programs: {}", node_folder(), std::getenv("MUSTER_BIN")));
}

std::string SshHosts::Cluster(const std::string& fields) const { return Cluster("", fields); }

std::string SshHosts::ClusterAs(const std::string& user) const {
  return Cluster(", user: " + user, "programs: /opt/muster");
}

std::string SshHosts::Cluster(const std::string& of_host, const std::string& fields) const {
  std::string hosts;
  for (int i = 0; i < count_; ++i)
    hosts += fmt::format("{}{{host: {}{}}}", i > 0 ? ", " : "", address(i), of_host);
  return fmt::format(
      "provider: SSH, ssh: {{hosts: [{}], identityFile: {}, configFile: {}/ssh_config, {}}}", hosts,
      key(), folder_, fields);
}

void SshHosts::SetLink(int host, bool up) const {
  Shell(fmt::format("ip link set {} {}", Namespace(host), up ? "up" : "down"));
}

void SshHosts::Crash(int host) const {
  // From outside: a shell of the host's that kills itself first leaves the others.
  Shell(fmt::format("ip netns pids {} | xargs -r kill -9", Namespace(host)));
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
