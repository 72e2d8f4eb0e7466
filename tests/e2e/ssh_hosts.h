// Hosts for tests of provider SSH: an sshd each in a network namespace of its own, with an address
// of its own on one bridge. Their processes and all but one folder are this machine's.
//
// Or sshd is a service of a systemd that each host runs as its first process, over a copy of this
// machine's files that is thrown away. Whatever a login there leaves behind is ended with it
// (logind's KillUserProcesses), root's, too. Two more users may log in: "stays", who lingers
// (loginctl enable-linger), and "goes".
//
// Needs root, iproute2, util-linux and openssh-server, and for the latter systemd with dbus and
// libpam-systemd, and overlayfs. Owned by the test's thread; everything is gone with the object.
#pragma once

#include <string>
#include <vector>

namespace muster::e2e {

class SshHosts {
 public:
  // In `folder`, which gets keys, configuration, logs and `node`, the folder that each host has
  // its own of.
  SshHosts(int count, std::string folder, bool systemd = false);
  ~SshHosts();
  SshHosts(const SshHosts&) = delete;
  SshHosts& operator=(const SshHosts&) = delete;

  // Why there are none; "" when they answer.
  const std::string& problem() const { return problem_; }
  std::string address(int host) const;
  // `cluster:` of a job file, in flow style: all hosts, the programs of this build in place.
  std::string Cluster() const;
  // The same with `fields` of `ssh` instead of where the programs and jobs are.
  std::string Cluster(const std::string& fields) const;
  std::string node_folder() const { return folder_ + "/node"; }
  std::string key() const { return folder_ + "/key"; }
  std::string known_hosts() const { return folder_ + "/known_hosts"; }
  // As `user` of hosts that run systemd.
  std::string ClusterAs(const std::string& user) const;
  // Cuts or restores the host's link.
  void SetLink(int host, bool up) const;
  // Ends all that runs on the host, its sshd too, as when a machine crashes and its network says so.
  void Crash(int host) const;
  // What `command` prints when a shell of the host runs it.
  std::string On(int host, const std::string& command) const;
  // Names of processes that a host runs besides sshd.
  std::vector<std::string> ProcessesOn(int host) const;
  // Fails the test unless nothing of a job runs on any host, 20 s from now at the latest.
  void ExpectQuiet() const;

 private:
  std::string Namespace(int host) const;
  // The command that becomes the host's first process, in its network.
  std::string FirstProcess(int host) const;
  std::string Cluster(const std::string& of_host, const std::string& fields) const;

  const int count_;
  const bool systemd_;
  const std::string folder_, name_;
  int subnet_ = 0;
  std::string problem_;
};

}  // namespace muster::e2e
