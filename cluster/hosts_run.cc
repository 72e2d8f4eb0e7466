#include "cluster/hosts_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "cluster/bundle.h"
#include "cluster/job_run.h"
#include "cluster/local_record.h"
#include "cluster/local_roles.h"
#include "cluster/node_processes.h"
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

absl::StatusOr<std::unique_ptr<NodeProcesses>> Connect(const HostsRun& run, const LocalJob& job) {
  std::vector<std::unique_ptr<NodeLink>> links;
  for (const RunHost& host : run.hosts) {
    ASSIGN_OR_RETURN(std::unique_ptr<NodeLink> link, NodeLink::Start(host.link, run.bundle));
    links.push_back(std::move(link));
  }
  NodeProcesses::Options options;
  options.build_id = run.build_id;
  options.job_folder = run.job_folder;
  options.job_dir = job.job_dir;
  options.host_of_role = run.host_of_role;
  const JobDirectory dir(job.job_dir);
  for (const LocalRole& role : job.roles) {
    options.log_paths.push_back(dir.log(role.role, role.index));
  }
  auto nodes = std::make_unique<NodeProcesses>(std::move(options), std::move(links));
  RETURN_IF_ERROR(nodes->Open());
  return nodes;
}

// Where the other hosts reach `host`.
absl::StatusOr<std::string> AddressOf(const RunHost& host, const NodeHello& hello) {
  std::string address = host.address.empty() ? hello.address() : host.address;
  if (address.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("host {}: it does not say at which address it was reached: write it in {}",
                    host.link.name, host.address_field));
  }
  if (address.find(':') != std::string::npos) address = "[" + address + "]";
  return address;
}

absl::Status CheckReachable(const HostsRun& run, const std::vector<RolePlace>& places) {
  std::map<bool, std::string> by_loopback;
  for (const RolePlace& place : places) {
    const bool loopback =
        place.listen_address.starts_with("127.") || place.listen_address == "[::1]";
    by_loopback[loopback] = place.listen_address;
  }
  if (by_loopback.size() < 2) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "one host was reached at {}, where the host at {} cannot reach it: write addresses that all "
      "hosts reach in {}",
      by_loopback[true], by_loopback[false], run.hosts[0].address_field));
}

// Where each role lives, with a certificate of its own.
absl::StatusOr<std::vector<RolePlace>> Places(const HostsRun& run, const LocalJob& job,
                                              const NodeProcesses& nodes, int64_t now_s) {
  ASSIGN_OR_RETURN(
      const rpc::JobAuthority authority,
      rpc::JobAuthority::Make(job.job_id, now_s,
                              now_s + job.max_running_ms / 1000 + kCertificateSlackSeconds));
  std::vector<RolePlace> places;
  for (size_t i = 0; i < job.roles.size(); ++i) {
    const size_t host = run.host_of_role[i];
    ASSIGN_OR_RETURN(std::string address, AddressOf(run.hosts[host], nodes.hello(host)));
    ASSIGN_OR_RETURN(const rpc::Identity identity,
                     authority.Issue(fmt::format("{}-{}", job.roles[i].role, job.roles[i].index)));
    places.push_back({nodes.job_folder(host), std::move(address), rpc::EncodeIdentity(identity)});
  }
  RETURN_IF_ERROR(CheckReachable(run, places));
  return places;
}

}  // namespace

NodeLink::Bundle BundleFor(const LocalOptions& options) {
  auto bundle = std::make_shared<std::shared_ptr<const std::string>>();
  return [&options, bundle]() -> absl::StatusOr<std::shared_ptr<const std::string>> {
    if (*bundle != nullptr) return *bundle;
    const std::string_view text = "sending the programs to where they are missing\n";
    (void)!write(options.out_fd, text.data(), text.size());
    ASSIGN_OR_RETURN(*bundle, MakeBundle(options.program_dir, options.environment,
                                         Variable(options.environment, "PATH")));
    return *bundle;
  };
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

absl::StatusOr<int> RunOnHosts(const HostsRun& run, const LocalOptions& options) {
  const LocalJob draft = run.make_job(1);
  const JobDirectory dir(draft.job_dir);
  RETURN_IF_ERROR(master::CreateJobDirectory(dir));
  const int64_t now = UnixMillis();
  ASSIGN_OR_RETURN(const std::unique_ptr<JobLock> lock, JobLock::Take(dir, now));
  NoteJob(draft, options, /*stays=*/false, now);
  ASSIGN_OR_RETURN(const std::unique_ptr<NodeProcesses> nodes, Connect(run, draft));
  std::vector<int> cores;
  for (size_t i = 0; i < run.hosts.size(); ++i) cores.push_back(nodes->hello(i).cores());
  LocalJob job = run.make_job(ThreadsOf(draft.roles, run.host_of_role, cores));
  ShareGpus(run.host_of_role, &job.roles);
  ASSIGN_OR_RETURN(const std::vector<RolePlace> places, Places(run, job, *nodes, now / 1000));
  RETURN_IF_ERROR(nodes->Pull());
  RETURN_IF_ERROR(WriteFirstRecord(job, dir, now));
  RETURN_IF_ERROR(nodes->Push());
  return RunJobRoles(job, options, places, *nodes);
}

}  // namespace muster::cluster
