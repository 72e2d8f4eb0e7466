// How hosts are reached with the user's own ssh: the command for a host, what is run there, and
// what ssh's complaints mean.
//
// Free functions, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "configs/job.pb.h"

namespace muster::cluster {

// `text` as one word of a POSIX shell.
std::string ShellQuote(const std::string& text);

// `path` as one word of it: "~/" is the home of the user there.
std::string ShellPath(const std::string& path);

// ssh and its options up to the host's name, for a command without terminal and questions. A host
// that does not answer is given up after ten seconds, one that falls silent after fifteen.
std::vector<std::string> SshWords(const Ssh& ssh, const SshHost& host);

// The same for a person: with a terminal and ssh's own questions. `forwards`: of -L; `command`: its
// words arrive as they are; none: a shell.
std::vector<std::string> SshTerminalWords(const Ssh& ssh, const SshHost& host,
                                          const std::vector<std::string>& forwards,
                                          const std::vector<std::string>& command);

// What is run on a host: puts the programs of build `build_id` where they are missing, and becomes
// `launch node` (cluster/node_link.h).
std::string NodeScript(const Ssh& ssh, const std::string& build_id);

// The folder of a job on the hosts.
std::string JobFolder(const Ssh& ssh, const std::string& job_id);

// "user@host:port" as the user wrote it.
std::string HostName(const SshHost& host);

// One line with what happened and what to do, from what ssh wrote to its stderr.
std::string ExplainSsh(const Ssh& ssh, const SshHost& host, const std::string& complaint);

}  // namespace muster::cluster
