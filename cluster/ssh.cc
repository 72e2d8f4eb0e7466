#include "cluster/ssh.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

namespace muster::cluster {
namespace {

std::string Directory(const Ssh& ssh) {
  return ssh.directory().empty() ? "~/.muster" : ssh.directory();
}

// How the job file says that `host` is reached, and its name.
void AddHost(const Ssh& ssh, const SshHost& host, std::vector<std::string>* words) {
  if (!ssh.config_file().empty()) words->push_back("-F" + ssh.config_file());
  if (!ssh.identity_file().empty()) {
    words->push_back("-i" + ssh.identity_file());
    words->emplace_back("-oIdentitiesOnly=yes");
  }
  if (!host.user().empty()) words->push_back("-l" + host.user());
  if (host.port() != 0) words->push_back(fmt::format("-p{}", host.port()));
  words->emplace_back("--");
  words->push_back(host.host());
}

}  // namespace

std::string ShellQuote(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string ShellPath(const std::string& path) {
  if (path.starts_with("~/")) return "\"$HOME\"/" + ShellQuote(path.substr(2));
  return ShellQuote(path);
}

std::vector<std::string> SshWords(const Ssh& ssh, const SshHost& host) {
  std::vector<std::string> words = {"ssh", "-T", "-oBatchMode=yes", "-oConnectTimeout=10",
                                    "-oServerAliveInterval=5", "-oServerAliveCountMax=3",
                                    // A connection of its own, whose end is the end of the node.
                                    "-oControlMaster=no", "-oControlPath=none",
                                    "-oClearAllForwardings=yes"};
  AddHost(ssh, host, &words);
  return words;
}

std::vector<std::string> SshTerminalWords(const Ssh& ssh, const SshHost& host,
                                          const std::vector<std::string>& forwards,
                                          const std::vector<std::string>& command) {
  std::vector<std::string> words = {"ssh"};
  for (const std::string& forward : forwards) words.push_back("-L" + forward);
  AddHost(ssh, host, &words);
  // ssh makes one text of the words, which a shell of the host reads.
  for (const std::string& word : command) words.push_back(ShellQuote(word));
  return words;
}

std::string NodeScript(const Ssh& ssh, const std::string& build_id) {
  if (!ssh.programs().empty()) {
    return fmt::format(
        "p={}\n"
        "[ -x \"$p/launch\" ] || {{ echo \"muster: no program launch in $p: name the folder that "
        "has this build's in `programs`\"; exit 3; }}\n"
        "echo 'muster: ready'\n"
        "exec \"$p/launch\" node\n",
        ShellPath(ssh.programs()));
  }
  return fmt::format(
      "umask 077\n"
      "d={}/builds/{}\n"
      "if [ ! -x \"$d/bin/launch\" ]; then\n"
      "  t=\"$d.new.$$\"\n"
      "  mkdir -p \"$t\" || {{ echo \"muster: cannot make $t: name another folder in "
      "cluster.ssh.directory\"; exit 3; }}\n"
      "  trap 'rm -rf \"$t\"' EXIT\n"
      "  echo \"muster: missing $(df -Pk \"$t\" | awk 'NR == 2 {{ print $4 }}')\"\n"
      "  read -r n || exit 3\n"
      "  head -c \"$n\" | tar -xzf - --strip-components=1 -C \"$t\" || {{ echo \"muster: cannot "
      "unpack the programs in "
      "$t\"; exit 3; }}\n"
      // Another launcher may have been faster.
      "  mv -T \"$t\" \"$d\" 2>/dev/null || rm -rf \"$t\"\n"
      "  trap - EXIT\n"
      "fi\n"
      "echo 'muster: ready'\n"
      "exec \"$d/bin/launch\" node\n",
      ShellPath(Directory(ssh)), build_id);
}

std::string JobFolder(const Ssh& ssh, const std::string& job_id) {
  return fmt::format("{}/jobs/{}", Directory(ssh), job_id);
}

std::string HostName(const SshHost& host) {
  std::string name = host.user().empty() ? host.host() : host.user() + "@" + host.host();
  if (host.port() != 0) name += fmt::format(":{}", host.port());
  return name;
}

std::string ExplainSsh(const Ssh& ssh, const SshHost& host, const std::string& complaint) {
  const auto said = [&](const char* text) { return complaint.find(text) != std::string::npos; };
  if (said("REMOTE HOST IDENTIFICATION HAS CHANGED")) {
    return fmt::format(
        "its host key is not the one that known_hosts has: if the machine was set up anew, run "
        "ssh-keygen -R {}; else somebody may stand in between",
        host.host());
  }
  if (said("Host key verification failed")) {
    return fmt::format("its host key is not known yet: run ssh {} once, and compare it",
                       HostName(host));
  }
  if (said("UNPROTECTED PRIVATE KEY FILE") || said("bad permissions")) {
    const std::string key = ssh.identity_file().empty() ? "KEY" : ssh.identity_file();
    return fmt::format("ssh does not use a key that others may read: run chmod 600 {}", key);
  }
  if (said("Permission denied")) {
    return fmt::format(
        "it refuses the login: try ssh {}, and name key and user in cluster.ssh.identityFile and "
        "hosts[].user",
        HostName(host));
  }
  if (said("Could not resolve hostname")) {
    return "there is no host of this name: see cluster.ssh.hosts";
  }
  if (said("Connection timed out") || said("No route to host") || said("Network is unreachable")) {
    return "it does not answer: is it on, and the network in between?";
  }
  if (said("Connection refused")) return "nothing listens for ssh there: see hosts[].port";
  std::string last;
  for (const auto line : absl::StrSplit(complaint, '\n', absl::SkipWhitespace())) {
    last = std::string(line.data(), line.size());
  }
  while (!last.empty() && (last.back() == '\r' || last.back() == ' ')) last.pop_back();
  return last.empty() ? "the connection ended" : "the connection ended: " + last;
}

}  // namespace muster::cluster
