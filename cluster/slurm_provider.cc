#include "cluster/slurm_provider.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <filesystem>
#include <set>
#include <utility>

#include "cluster/ssh.h"
#include "cluster/tool.h"

namespace muster::cluster {
namespace {

constexpr int64_t kToolMs = 30'000;

}  // namespace

SlurmProvider::SlurmProvider(Slurm slurm, ToolRunner tools, std::vector<std::string> environment,
                             std::string program_dir, std::string build_id)
    : slurm_(std::move(slurm)),
      tools_(std::move(tools)),
      environment_(std::move(environment)),
      program_dir_(std::move(program_dir)),
      build_id_(std::move(build_id)) {}

std::string SlurmProvider::Programs() const {
  return slurm_.programs().empty() ? program_dir_ : slurm_.programs();
}

std::string SlurmProvider::Folder(const std::string& job_id) const {
  Ssh folder;
  folder.set_directory(slurm_.directory());
  return JobFolder(folder, job_id);
}

absl::StatusOr<std::string> SlurmProvider::Ask(const std::vector<std::string>& words,
                                               const std::string& input) const {
  auto result = tools_(words, kToolMs, input);
  if (absl::IsNotFound(result.status())) {
    return absl::NotFoundError(fmt::format(
        "there is no program {} in PATH: run launch where Slurm's commands are", words.front()));
  }
  RETURN_IF_ERROR(result.status());
  if (result->code == 0) return std::move(result->out);
  const std::string why = fmt::format("{}: {}", words.front(), ExplainSlurm(result->err));
  if (IsWithoutAnswer(result->err)) return absl::UnavailableError(why);
  return absl::FailedPreconditionError(why);
}

absl::StatusOr<std::vector<SlurmStatus>> SlurmProvider::Queue(const std::string& job_id) const {
  std::vector<std::string> words = {"squeue", "-h", "--me", "-t", "all", "-o", kSlurmFormat};
  if (!job_id.empty()) words.push_back("--name=" + job_id);
  ASSIGN_OR_RETURN(const std::string text, Ask(words));
  return ParseSqueue(text);
}

absl::StatusOr<std::vector<std::string>> SlurmProvider::Check(const MachineOrder& order) {
  const absl::Status asked = Queue(order.job_id).status();
  if (!asked.ok() && !absl::IsUnimplemented(asked)) return asked;
  return std::vector<std::string>();
}

absl::Status SlurmProvider::Create(const MachineOrder& order,
                                   const std::function<absl::Status(const std::string&)>& before) {
  run_ = order.run;
  RETURN_IF_ERROR(before(fmt::format("{}-{}", order.run, order.attempt)));
  const absl::Status asked =
      Ask({"sbatch", "--parsable"}, SlurmScript(order, slurm_, Programs(), Folder(order.job_id)))
          .status();
  if (asked.ok() || absl::IsUnimplemented(asked)) return absl::OkStatus();
  // Slurm has said no: there is nothing.
  const bool refused = absl::IsFailedPrecondition(asked);
  return refused ? absl::Status(kNoRoomInZone, asked.message()) : asked;
}

absl::StatusOr<std::vector<Machine>> SlurmProvider::List(const std::string& job_id) {
  std::vector<Machine> machines;
  ASSIGN_OR_RETURN(const std::vector<SlurmStatus> components, Queue(job_id));
  for (const SlurmStatus& component : components) {
    Machine machine{.id = component.id,
                    .job_id = component.job_id,
                    .owner = component.owner,
                    .role = component.role,
                    .attempt = component.attempt};
    if (SlurmHasEnded(component.state)) {
      if (component.run != run_) continue;  // of an earlier launch
      machine.state = MachineState::kGone;
      machine.reason = fmt::format("Slurm says {}; scontrol show job {} says why", component.state,
                                   component.id);
    } else if (component.state == "RUNNING") {
      machine.state = MachineState::kRunning;
    } else if (component.state == "PENDING" && !component.reason.empty()) {
      machine.reason = "waiting for nodes: " + component.reason;
    }
    std::vector<std::string> nodes(static_cast<size_t>(component.nodes));
    std::map<std::string, std::string> addresses;
    if (machine.state == MachineState::kRunning) {
      cpus_[component.id] = component.cpus;
      // The order of tasks.
      ASSIGN_OR_RETURN(const std::string names,
                       Ask({"scontrol", "show", "hostnames", component.node_list}));
      nodes = absl::StrSplit(names, '\n', absl::SkipWhitespace());
      ASSIGN_OR_RETURN(const std::string about,
                       Ask({"scontrol", "-o", "show", "node", component.node_list}));
      addresses = ParseNodeAddresses(about);
    }
    for (size_t i = 0; i < nodes.size(); ++i) {
      machine.index = static_cast<int>(i);
      if (!nodes[i].empty()) machine.id = fmt::format("{}/{}", component.id, nodes[i]);
      machine.address = addresses[nodes[i]];
      machines.push_back(machine);
    }
  }
  return machines;
}

absl::Status SlurmProvider::Destroy(const std::string& job_id) {
  const auto components = Queue(job_id);
  if (absl::IsUnimplemented(components.status())) {
    (void)Ask({"scancel", "$JOB"}).ok();
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(components.status());
  // By the number of the first component all are ended.
  std::set<std::string> jobs;
  for (const SlurmStatus& component : *components) {
    if (!SlurmHasEnded(component.state))
      jobs.insert(component.id.substr(0, component.id.find('+')));
  }
  if (jobs.empty()) return absl::OkStatus();
  std::vector<std::string> words = {"scancel"};
  words.insert(words.end(), jobs.begin(), jobs.end());
  return Ask(words).status();
}

absl::StatusOr<RunHost> SlurmProvider::Reach(const Machine& machine) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(machine.id, '/');
  const auto& [component, node] = parts;
  Ssh programs;
  programs.set_programs(Programs());
  RunHost host;
  host.link.name = node;
  host.link.argv = SrunWords(component, node, cpus_.at(component), NodeScript(programs, build_id_));
  host.link.argv.front() = FindProgram("srun", Variable(environment_, "PATH"));
  if (host.link.argv.front().empty())
    return absl::NotFoundError("there is no program srun in PATH");
  host.link.environment = environment_;
  host.link.explain = ExplainSlurm;
  host.address = machine.address;
  host.address_field = "slurm.conf's NodeAddr";
  return host;
}

absl::StatusOr<std::vector<std::string>> SlurmProvider::Terminal(const Machine& machine,
                                                                 const TerminalWish& wish) const {
  if (!wish.forwards.empty()) {
    return absl::InvalidArgumentError(
        "-L: srun brings no ports here: use ssh to the node, where the cluster lets you in");
  }
  const std::pair<std::string, std::string> parts = absl::StrSplit(machine.id, '/');
  return SrunTerminalWords(parts.first, parts.second, wish);
}

std::optional<RunHost> SlurmProvider::ReachFolder(const std::string& job_id) {
  std::string folder = Folder(job_id);
  if (folder.starts_with("~/")) folder = Variable(environment_, "HOME") + folder.substr(1);
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return std::nullopt;
  Ssh programs;
  programs.set_programs(Programs());
  RunHost host;
  host.link.name = "whose nodes were given back";
  host.link.argv = {"/bin/sh", "-c", NodeScript(programs, build_id_)};
  host.link.environment = environment_;
  host.link.explain = ExplainSlurm;
  return host;
}

std::string SlurmProvider::ListCommand(const std::string& job_id) const {
  return job_id.empty() ? "squeue --me" : "squeue --me --name=" + job_id;
}

}  // namespace muster::cluster
