#include "cluster/hosts_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "cluster/bundle.h"
#include "cluster/command.h"
#include "cluster/data_send.h"
#include "cluster/job_run.h"
#include "cluster/local_record.h"
#include "cluster/local_roles.h"
#include "cluster/node_processes.h"
#include "cluster/tool.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "rpc/identity.h"
#include "telemetry/host_name.h"
#include "telemetry/time.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::JobLock;

// For what comes before and after training.
constexpr int64_t kCertificateSlackSeconds = 86'400;
// For hosts to end after one of them has.
constexpr int kAttachTries = 40, kAttachPauseMs = 500;
// For hosts of workers that may be gone for good, while the others go on.
constexpr int kTriesWithAllWorkers = 10;

std::string NameOf(const LocalRole& role) { return fmt::format("{}-{}", role.role, role.index); }

// With a link to the first `hosts` of them. `keys`: may be filled in later.
absl::StatusOr<std::unique_ptr<NodeProcesses>> Link(const HostsRun& run, const LocalJob& job,
                                                    std::shared_ptr<const RunKeys> keys, bool stay,
                                                    size_t hosts, bool without_workers = false) {
  std::vector<std::unique_ptr<NodeLink>> links;
  for (size_t i = 0; i < hosts; ++i) {
    const NodeLink::Options& way = run.hosts[i].link;
    if (way.argv.empty()) {
      links.push_back(NodeLink::Missing(way.name));
      continue;
    }
    ASSIGN_OR_RETURN(std::unique_ptr<NodeLink> link, NodeLink::Start(way, run.bundle));
    links.push_back(std::move(link));
  }
  NodeProcesses::Options options;
  options.build_id = run.build_id;
  options.job_folder = run.job_folder;
  options.job_dir = job.job_dir;
  options.host_of_role = run.host_of_role;
  options.launcher =
      fmt::format("process {} on host {} since {}", getpid(), HostName(), FormatTime(UnixMillis()));
  options.can_detach = run.can_detach;
  options.stay = stay;
  options.here = run.here;
  options.rented = run.rented;
  options.kept = run.kept;
  options.idle = job.idle;
  if (run.before_leaving) {
    options.before_leaving = [&run, keys = std::move(keys)](int64_t until_in_ms) {
      return run.before_leaving(until_in_ms, *keys);
    };
  }
  options.without_workers = without_workers;
  options.steward = run.steward;
  options.bundle = run.bundle;
  for (const RunHost& host : run.hosts) options.notices_of.push_back(host.notices_of);
  options.max_running_ms = job.max_running_ms;
  const JobDirectory dir(job.job_dir);
  for (const LocalRole& role : job.roles) {
    options.role_names.push_back(NameOf(role));
    options.log_paths.push_back(dir.log(role.role, role.index));
  }
  return std::make_unique<NodeProcesses>(std::move(options), std::move(links));
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

// Where data that was brought lies on the hosts, beside the folders of jobs.
std::string DataRoot(const std::string& job_folder) {
  return (std::filesystem::path(job_folder).parent_path().parent_path() / "data").string();
}

// What of the job's data lies on this machine, and may have to go to hosts.
absl::StatusOr<std::vector<DataSet>> DataHere(const HostsRun& run, const LocalJob& job,
                                              const LocalOptions& options) {
  std::vector<DataSet> sets;
  for (const std::string& value : job.data) {
    const std::string folder = worker::DataFolder(value, options.data_folder);
    std::error_code error;
    if (run.here || !std::filesystem::is_directory(folder, error)) continue;
    ASSIGN_OR_RETURN(DataSet data, MeasureData(value, folder));
    sets.push_back(std::move(data));
  }
  return sets;
}

// To one in another's place, as to the first ones below.
NodeProcesses::SendData SendLater(const HostsRun& run, std::vector<DataSet> sets) {
  if (sets.empty()) return nullptr;
  return [root = DataRoot(run.job_folder), sets = std::move(sets)](const RunHost& host) {
    return DataSending::Start({host}, root, sets);
  };
}

// The data begins to go to the hosts of trainers that lack it.
absl::StatusOr<std::unique_ptr<DataSending>> SendData(const HostsRun& run, const LocalJob& job,
                                                      const std::vector<DataSet>& sets) {
  std::vector<RunHost> hosts;
  for (size_t host = 0; host < run.hosts.size(); ++host) {
    for (size_t i = 0; i < job.roles.size(); ++i) {
      if (run.host_of_role[i] != host || job.roles[i].role == "ps") continue;
      hosts.push_back(run.hosts[host]);
      break;
    }
  }
  return DataSending::Start(hosts, DataRoot(run.job_folder), sets);
}

// Where each role lives, with a certificate of its own, which `keys` gets, too.
absl::StatusOr<std::vector<RolePlace>> Places(const HostsRun& run, const LocalJob& job,
                                              const NodeProcesses& nodes,
                                              const LocalOptions& options, int64_t now_s,
                                              RunKeys* keys) {
  if (run.here) {
    return std::vector<RolePlace>(job.roles.size(),
                                  {.job_dir = run.job_folder, .data_folder = options.data_folder});
  }
  ASSIGN_OR_RETURN(
      const rpc::JobAuthority authority,
      rpc::JobAuthority::Make(job.job_id, now_s,
                              now_s + job.max_running_ms / 1000 + kCertificateSlackSeconds));
  std::vector<RolePlace> places;
  for (size_t i = 0; i < job.roles.size(); ++i) {
    const size_t host = run.host_of_role[i];
    ASSIGN_OR_RETURN(std::string address, AddressOf(run.hosts[host], nodes.hello(host)));
    const std::string name = NameOf(job.roles[i]);
    ASSIGN_OR_RETURN(const rpc::Identity identity, authority.Issue(name));
    keys->identities[name] = rpc::EncodeIdentity(identity);
    const std::string folder = nodes.job_folder(host);
    places.push_back({folder, std::move(address), keys->identities[name], DataRoot(folder)});
  }
  RETURN_IF_ERROR(CheckReachable(run, places));
  return places;
}

// The job has ended while nobody followed it.
absl::StatusOr<int> TellEnd(const HostsRun& run, const LocalJob& job, const LocalOptions& options) {
  const auto say = [](int fd, const std::string& text) {
    (void)!write(fd, text.data(), text.size());
  };
  if (!run.here) {
    // Of hosts that are rented the others may be gone.
    ASSIGN_OR_RETURN(const std::unique_ptr<NodeProcesses> nodes,
                     Link(run, job, std::make_shared<const RunKeys>(), /*stay=*/false,
                          run.rented ? 1 : run.hosts.size(), /*without_workers=*/true));
    RETURN_IF_ERROR(nodes->Open());
    absl::Status brought = nodes->Pull();
    if (brought.ok()) brought = nodes->PullLogs();
    if (!brought.ok()) {
      // It still lies there for the next who comes.
      nodes->Abandon();
      return brought;
    }
  }
  const std::string path = JobDirectory(job.job_dir).state_json();
  ASSIGN_OR_RETURN(const master::JobState state, master::ReadJobState(path));
  if (!master::IsFinal(state.state)) {
    say(options.err_fd,
        fmt::format("error: nothing of {} runs any more, and nobody was there to say why: launch "
                    "again with this --job-dir to go on from its last checkpoint\n",
                    job.job_id));
    return 1;
  }
  if (state.state == master::RunState::kFailed) {
    say(options.err_fd, fmt::format("error: {}\nthe logs of all roles lie in {}\n",
                                    state.error_message, JobDirectory(job.job_dir).logs()));
    return 1;
  }
  say(options.out_fd,
      fmt::format(
          "{} at step {} of {} since {}{}{}\nlaunch jobs describe {} shows what it has left\n",
          master::RunStateName(state.state), state.step, state.total_steps,
          FormatTime(state.end_ms), state.error_message.empty() ? "" : ": ", state.error_message,
          job.job_id));
  return state.state == master::RunState::kSucceeded ? 0 : 1;
}

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

NodeLink::Bundle BundleFor(const LocalOptions& options) {
  auto bundle = std::make_shared<std::shared_ptr<const std::string>>();
  return [&options, bundle]() -> absl::StatusOr<std::shared_ptr<const std::string>> {
    if (*bundle != nullptr) return *bundle;
    Tell(options, "sending the programs to where they are missing");
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
  const bool stay = run.can_detach.ok() && !run.rented && (options.async || draft.stays);
  // The directory of a job on this machine is locked by its keeper.
  std::unique_ptr<JobLock> lock;
  if (!run.here) {
    ASSIGN_OR_RETURN(lock, JobLock::Take(dir, now));
  }
  // Beside the connections, as it mostly finds that all is there.
  ASSIGN_OR_RETURN(const std::vector<DataSet> sets, DataHere(run, draft, options));
  ASSIGN_OR_RETURN(const std::unique_ptr<DataSending> sending, SendData(run, draft, sets));
  const auto keys = std::make_shared<RunKeys>();
  keys->token = MakeRunToken();
  ASSIGN_OR_RETURN(const std::unique_ptr<NodeProcesses> nodes,
                   Link(run, draft, keys, stay, run.hosts.size()));
  nodes->SendDataWith(SendLater(run, sets));
  RETURN_IF_ERROR(nodes->Open());
  if (options.async) RETURN_IF_ERROR(nodes->CanDetach());
  // Whoever is refused there has no job to note, and runs none yet.
  NoteJob(draft, options, stay, now);
  std::vector<int> cores;
  for (size_t i = 0; i < run.hosts.size(); ++i) cores.push_back(nodes->hello(i).cores());
  LocalJob job = run.make_job(ThreadsOf(draft.roles, run.host_of_role, cores));
  ShareGpus(run.host_of_role, &job.roles);
  ASSIGN_OR_RETURN(const std::vector<RolePlace> places,
                   Places(run, job, *nodes, options, now / 1000, keys.get()));
  RETURN_IF_ERROR(nodes->Pull());
  RETURN_IF_ERROR(WriteFirstRecord(job, dir, now));
  RETURN_IF_ERROR(nodes->Push());
  const absl::Status sent = sending->Wait(
      [&]() -> absl::Status {
        if (run.interrupted && run.interrupted()) return absl::CancelledError("interrupted");
        return nodes->KeepAlive();
      },
      [&](const std::string& line) { Tell(options, line); });
  if (absl::IsCancelled(sent)) return kInterrupted;
  RETURN_IF_ERROR(sent);
  return RunJobRoles(job, options, places, *nodes,
                     {.token = keys->token, .leave = options.async, .on_left = run.on_left});
}

absl::StatusOr<int> AttachToHosts(const HostsRun& run, const LocalOptions& options, bool cancel) {
  LocalJob job = run.make_job(1);
  ShareGpus(run.host_of_role, &job.roles);
  std::unique_ptr<JobLock> lock;
  if (!run.here) {
    ASSIGN_OR_RETURN(lock, JobLock::Take(JobDirectory(job.job_dir), UnixMillis()));
  }
  const auto keys = std::make_shared<const RunKeys>(run.keys);
  for (int i = 0; i < kAttachTries; ++i) {
    const bool last_ways = i >= kTriesWithAllWorkers;
    ASSIGN_OR_RETURN(std::unique_ptr<NodeProcesses> nodes,
                     Link(run, job, keys, /*stay=*/true, run.hosts.size(), last_ways));
    const absl::Status attached = nodes->Attach();
    if (!attached.ok() && !last_ways && nodes->LacksWorkersAlone()) {
      i = kTriesWithAllWorkers - 1;  // their hosts do not answer, and were waited for
      continue;
    }
    RETURN_IF_ERROR(attached);
    if (nodes->follows()) {
      NoteStays(job, options);
      std::vector<RolePlace> places(job.roles.size());
      for (size_t role = 0; role < places.size(); ++role) {
        const auto identity = keys->identities.find(NameOf(job.roles[role]));
        if (identity != keys->identities.end()) places[role].identity = identity->second;
        places[role].data_folder = DataRoot(nodes->job_folder(0));
      }
      // Where it does not read, a host in another's place may have it all the same.
      auto sets = DataHere(run, job, options);
      if (run.steward != nullptr && sets.ok()) {
        nodes->SendDataWith(SendLater(run, *std::move(sets)));
      }
      return RunJobRoles(
          job, options, places, *nodes,
          {.token = keys->token, .attached = true, .cancel = cancel, .on_left = run.on_left});
    }
    if (!nodes->runs_master()) {
      nodes.reset();  // a keeper serves one
      return TellEnd(run, job, options);
    }
    // A host whose roles have ended: the others follow.
    poll(nullptr, 0, kAttachPauseMs);
  }
  return absl::UnavailableError(
      "on some hosts nothing of the job runs any more: it is about to end; attach again");
}

absl::StatusOr<int> FetchFromMaster(const HostsRun& run, const LocalOptions& options) {
  const LocalJob job = run.make_job(1);
  ASSIGN_OR_RETURN(const std::unique_ptr<JobLock> lock,
                   JobLock::Take(JobDirectory(job.job_dir), UnixMillis()));
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<NodeProcesses> nodes,
                     Link(run, job, std::make_shared<const RunKeys>(), /*stay=*/true,
                          /*hosts=*/1));
    const absl::Status attached = nodes->Attach();
    nodes->Abandon();
    RETURN_IF_ERROR(attached);
    if (nodes->runs_master()) {
      return absl::UnavailableError(
          "some of the job's machines are gone: it is about to end; attach again");
    }
  }
  return TellEnd(run, job, options);
}

}  // namespace muster::cluster
