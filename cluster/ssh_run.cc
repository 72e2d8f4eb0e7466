#include "cluster/ssh_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "cluster/bundle.h"
#include "cluster/job_run.h"
#include "cluster/local_record.h"
#include "cluster/node_processes.h"
#include "cluster/ssh.h"
#include "cluster/tool.h"
#include "master/job_directory.h"
#include "rpc/identity.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::JobLock;

// For what comes before and after training.
constexpr int64_t kCertificateSlackSeconds = 86'400;

std::string Variable(const std::vector<std::string>& environment, const std::string& name) {
  for (const std::string& entry : environment) {
    if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
  }
  return "";
}

class SshRun {
 public:
  SshRun(const Ssh& ssh, const LocalOptions& options, std::string build_id)
      : ssh_(ssh),
        options_(options),
        build_id_(std::move(build_id)),
        path_variable_(Variable(options.environment, "PATH")) {}

  absl::StatusOr<int> Run(const std::function<LocalJob(int threads)>& make_job) {
    const LocalJob draft = make_job(1);
    const JobDirectory dir(draft.job_dir);
    RETURN_IF_ERROR(master::CreateJobDirectory(dir));
    const int64_t now = UnixMillis();
    ASSIGN_OR_RETURN(const std::unique_ptr<JobLock> lock, JobLock::Take(dir, now));
    const auto hosts = static_cast<size_t>(ssh_.hosts_size());
    const std::vector<size_t> host_of_role = PlaceRoles(draft.roles, hosts);
    ASSIGN_OR_RETURN(const std::unique_ptr<NodeProcesses> nodes, Connect(draft, dir, host_of_role));
    RETURN_IF_ERROR(nodes->Open());

    std::vector<int> cores;
    for (size_t i = 0; i < hosts; ++i) cores.push_back(nodes->hello(i).cores());
    const LocalJob job = make_job(ThreadsOf(draft.roles, host_of_role, cores));
    const int64_t now_s = now / 1000;
    ASSIGN_OR_RETURN(
        const rpc::JobAuthority authority,
        rpc::JobAuthority::Make(job.job_id, now_s,
                                now_s + job.max_running_ms / 1000 + kCertificateSlackSeconds));
    std::vector<RolePlace> places;
    for (size_t i = 0; i < job.roles.size(); ++i) {
      ASSIGN_OR_RETURN(std::string address, AddressOf(host_of_role[i], *nodes));
      ASSIGN_OR_RETURN(
          const rpc::Identity identity,
          authority.Issue(fmt::format("{}-{}", job.roles[i].role, job.roles[i].index)));
      places.push_back(
          {nodes->job_folder(host_of_role[i]), std::move(address), rpc::EncodeIdentity(identity)});
    }
    RETURN_IF_ERROR(CheckReachable(places));
    RETURN_IF_ERROR(nodes->Pull());
    RETURN_IF_ERROR(WriteFirstRecord(job, dir, now));
    RETURN_IF_ERROR(nodes->Push());
    return RunJobRoles(job, options_, places, *nodes);
  }

 private:
  absl::StatusOr<std::unique_ptr<NodeProcesses>> Connect(const LocalJob& job,
                                                         const JobDirectory& dir,
                                                         const std::vector<size_t>& host_of_role) {
    const std::string program = FindProgram("ssh", path_variable_);
    if (program.empty()) {
      return absl::NotFoundError(
          "there is no program ssh in PATH: install it (apt install openssh-client)");
    }
    std::vector<std::unique_ptr<NodeLink>> links;
    for (const SshHost& host : ssh_.hosts()) {
      NodeLink::Options options;
      options.name = HostName(host);
      options.argv = SshWords(ssh_, host);
      options.argv.front() = program;
      options.argv.push_back("exec sh -c " + ShellQuote(NodeScript(ssh_, build_id_)));
      options.environment = options_.environment;
      options.explain = [this, host](const std::string& text) {
        return ExplainSsh(ssh_, host, text);
      };
      ASSIGN_OR_RETURN(std::unique_ptr<NodeLink> link,
                       NodeLink::Start(std::move(options), [this] { return Bundle(); }));
      links.push_back(std::move(link));
    }
    NodeProcesses::Options options;
    options.build_id = build_id_;
    options.job_folder = JobFolder(ssh_, job.job_id);
    options.job_dir = job.job_dir;
    options.host_of_role = host_of_role;
    for (const LocalRole& role : job.roles) {
      options.log_paths.push_back(dir.log(role.role, role.index));
    }
    return std::make_unique<NodeProcesses>(std::move(options), std::move(links));
  }

  absl::StatusOr<std::shared_ptr<const std::string>> Bundle() {
    if (bundle_ == nullptr) {
      Say(fmt::format("sending the programs to where they are missing\n"), options_.out_fd);
      ASSIGN_OR_RETURN(bundle_,
                       MakeBundle(options_.program_dir, options_.environment, path_variable_));
    }
    return bundle_;
  }

  // Where the other hosts reach host `i`.
  absl::StatusOr<std::string> AddressOf(size_t i, const NodeProcesses& nodes) const {
    const SshHost& host = ssh_.hosts(static_cast<int>(i));
    std::string address = host.address().empty() ? nodes.hello(i).address() : host.address();
    if (address.empty()) {
      return absl::FailedPreconditionError(
          fmt::format("host {}: it does not say at which address ssh reached it: write it in "
                      "cluster.ssh.hosts[{}].address",
                      HostName(host), i));
    }
    if (address.find(':') != std::string::npos) address = "[" + address + "]";
    return address;
  }

  absl::Status CheckReachable(const std::vector<RolePlace>& places) const {
    std::map<bool, std::string> by_loopback;
    for (const RolePlace& place : places) {
      const bool loopback =
          place.listen_address.starts_with("127.") || place.listen_address == "[::1]";
      by_loopback[loopback] = place.listen_address;
    }
    if (by_loopback.size() < 2) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("ssh reaches one host at {}, where the host at {} cannot: write addresses that "
                    "all hosts reach in cluster.ssh.hosts[].address",
                    by_loopback[true], by_loopback[false]));
  }

  static void Say(const std::string& text, int fd) { (void)!write(fd, text.data(), text.size()); }

  const Ssh& ssh_;
  const LocalOptions& options_;
  const std::string build_id_, path_variable_;
  std::shared_ptr<const std::string> bundle_;
};

}  // namespace

std::vector<size_t> PlaceRoles(const std::vector<LocalRole>& roles, size_t hosts) {
  size_t workers = 0;
  for (const LocalRole& role : roles) workers += role.role == "worker" ? 1 : 0;
  std::vector<size_t> places;
  for (const LocalRole& role : roles) {
    size_t machine = 0;  // the master's
    const auto index = static_cast<size_t>(role.index);
    if (role.role == "worker") machine = 1 + index;
    if (role.role == "ps") machine = 1 + workers + index;
    places.push_back(machine % hosts);
  }
  return places;
}

int ThreadsOf(const std::vector<LocalRole>& roles, const std::vector<size_t>& host_of_role,
              const std::vector<int>& cores) {
  std::vector<int> trainers(cores.size());
  const bool alone = roles.size() == 1;
  for (size_t i = 0; i < roles.size(); ++i) {
    if (alone || roles[i].program == "worker") ++trainers[host_of_role[i]];
  }
  int threads = 0;
  for (size_t i = 0; i < cores.size(); ++i) {
    if (trainers[i] == 0) continue;
    const int here = std::max(1, cores[i] / trainers[i]);
    threads = threads == 0 ? here : std::min(threads, here);
  }
  return std::max(1, threads);
}

int RunOnSshHosts(const Ssh& ssh, const std::function<LocalJob(int threads)>& make_job,
                  const LocalOptions& options, const std::string& build_id) {
  const absl::StatusOr<int> code = SshRun(ssh, options, build_id).Run(make_job);
  if (code.ok()) return *code;
  const std::string text = fmt::format("error: {}\n", std::string(code.status().message()));
  (void)!write(options.err_fd, text.data(), text.size());
  return 2;
}

}  // namespace muster::cluster
