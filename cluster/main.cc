// The program `launch`. See docs/job-file.md, and `launch --help`.
#include <absl/strings/numbers.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>

#include "cluster/attach_command.h"
#include "cluster/build_facts.h"
#include "cluster/command.h"
#include "cluster/cost_command.h"
#include "cluster/doctor_command.h"
#include "cluster/evaluate_command.h"
#include "cluster/gc_command.h"
#include "cluster/image_bake.h"
#include "cluster/image_command.h"
#include "cluster/job_data.h"
#include "cluster/job_queue.h"
#include "cluster/jobs_command.h"
#include "cluster/kept_images.h"
#include "cluster/kept_run.h"
#include "cluster/local.h"
#include "cluster/local_roles.h"
#include "cluster/mirror.h"
#include "cluster/node_relay.h"
#include "cluster/plan_prices.h"
#include "cluster/plan_report.h"
#include "cluster/predict_command.h"
#include "cluster/provider_run.h"
#include "cluster/providers.h"
#include "cluster/random_hex.h"
#include "cluster/rented_machine.h"
#include "cluster/signals.h"
#include "cluster/ssh_command.h"
#include "cluster/upload_command.h"
#include "telemetry/build_id.h"
#include "telemetry/cores.h"
#include "telemetry/file.h"
#include "telemetry/host_name.h"
#include "telemetry/time.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

// For machines, where the job file does not say.
constexpr int64_t kMaxWaitSeconds = 86'400;

// The folder of this program, where the roles' programs lie too.
std::string ProgramFolder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : self.parent_path().string();
}

// The folders of data that the job's module reads; none where there is no such module.
std::vector<std::string> DataOfJob(const Job& job) {
  const auto module = worker::FindModule(job.training_input().python_module());
  if (!module.ok()) return {};
  const std::vector<std::string> args(job.training_input().args().begin(),
                                      job.training_input().args().end());
  return worker::FoldersOf(**module, worker::ParseModuleFlags(**module, args).values);
}

// What the roles use is written into job.yaml, so that a resume uses it too.
LocalJob MakeJob(const ResolvedJob& resolved, int cores, int threads) {
  Job complete = resolved.job;
  if (complete.training().threads() == 0) complete.mutable_training()->set_threads(threads);
  LocalJob job = MakeLocalJob(complete, cores);
  job.data = DataOfJob(complete);
  PlanReport plan = MakePlanReport(complete);
  job.plan = std::move(plan.rows);
  job.settings = std::move(plan.settings);
  job.dollars_per_hour = plan.dollars_per_hour;
  for (const Substitution& substitution : resolved.substitutions) {
    job.substitutions.emplace_back(substitution.path, substitution.text);
  }
  return job;
}

std::vector<std::string> Environment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  return environment;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string Owner() {
  const passwd* user = getpwuid(geteuid());
  return fmt::format("{}@{}", user == nullptr ? "?" : user->pw_name, HostName());
}

// "" when the user has none.
std::string Home() {
  std::string home = Variable("HOME");
  const passwd* user = home.empty() ? getpwuid(geteuid()) : nullptr;
  return user == nullptr ? home : user->pw_dir;
}

std::string MachinesFolder() { return Home() + "/.muster/machines"; }

// Where prices are kept for a day; "": nowhere.
std::string PricesFolder() {
  const std::string home = Home();
  return home.empty() ? "" : home + "/.muster/prices";
}

int64_t MaxWaitSeconds(const ResolvedJob& resolved) {
  const auto& scheduling = resolved.job.training_input().scheduling();
  return scheduling.has_max_wait_time() ? scheduling.max_wait_time().seconds() : kMaxWaitSeconds;
}

// What this build needs of machines, as the file beside its programs' folder says; none where it
// does not.
std::optional<BuildFacts> FactsOfBuild() {
  const auto text = ReadFile(ProgramFolder() + "/../built_for.json");
  if (!text.ok()) return std::nullopt;
  auto facts = ParseBuildFacts(*text);
  if (!facts.ok()) return std::nullopt;
  // What is sent from a build's folder is its bundle, which is compiled for all GPUs of its CUDA.
  if (!std::filesystem::exists(ProgramFolder() + "/../lib")) {
    facts->gpu_code.clear();
    facts->gpu_form.clear();
  }
  return *std::move(facts);
}

// As ProviderRun has it.
int64_t OldestDriver(const Job& job) {
  const auto facts = FactsOfBuild();
  const bool on_gpus = job.training().device() != Training::CPU;
  return on_gpus && facts && facts->cuda ? facts->OldestDriver() : 0;
}

// "" when the user has no home.
std::string OwnFolder(const char* name) {
  std::string folder = Variable("MUSTER_HOME");
  if (folder.empty() && !Home().empty()) folder = Home() + "/.muster";
  return folder.empty() ? "" : fmt::format("{}/{}", folder, name);
}

// Where launchers note their jobs.
std::string RegistryFolder() { return OwnFolder("jobs"); }

JobQueue MakeQueue() {
  return JobQueue({.folder = OwnFolder("queue"),
                   .registry = RegistryFolder(),
                   .journals = MachinesFolder(),
                   .now_ms = UnixMillis});
}

// This process goes on without whoever waits for it, and writes to a file of the queue's folder.
void GoToBackground(const std::string& job_id) {
  const std::string log = fmt::format("{}/{}.log", OwnFolder("queue"), job_id);
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child > 0) {
    fmt::print(
        "{} waits for its turn, and begins without a terminal: launch jobs list shows its place, "
        "launch jobs cancel {} takes it out; what it says is written to {}\n",
        job_id, job_id, log);
    std::fflush(stdout);
    _exit(kSucceeded);
  }
  if (child < 0) return;  // then it waits here
  setsid();
  const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  dup2(in, STDIN_FILENO);
  dup2(out < 0 ? in : out, STDOUT_FILENO);
  dup2(out < 0 ? in : out, STDERR_FILENO);
}

// Waits until cluster.limits lets the job begin; null where it has none.
absl::StatusOr<std::unique_ptr<QueueTicket>> AwaitTurnOf(const JobQueue& queue,
                                                         const ResolvedJob& resolved,
                                                         const Plan& plan,
                                                         const LaunchFlags& flags) {
  const Cluster& cluster = resolved.job.cluster();
  if (!cluster.has_limits()) return nullptr;
  if (BillsTheUser(cluster.provider()) && !flags.yes &&
      (flags.async || isatty(STDIN_FILENO) == 0)) {
    return absl::FailedPreconditionError(
        "nobody may be there to be asked whether machines are rented when the job's turn has come "
        "(cluster.limits): agree with --yes");
  }
  const std::string& dir = resolved.job.training_input().job_dir();
  QueuedJob job{.job_id = resolved.job.job_id(),
                .job_dir = IsAddress(dir) ? Mirror::FolderOf(dir, OwnFolder("mirrors"))
                                          : std::filesystem::absolute(dir).string(),
                .provider = Cluster::Provider_Name(cluster.provider()),
                .priority = resolved.job.training_input().scheduling().priority()};
  for (const PlanRole& role : plan.roles) {
    job.machines += role.role == Role::kEvaluator ? 0 : role.count;
  }
  Signals signals;
  Patience patience = RealPatience();
  patience.pause = [&signals](int64_t ms) {
    pollfd interrupt{signals.fd(), POLLIN, 0};
    poll(&interrupt, 1, static_cast<int>(ms));
    return !signals.Take();
  };
  std::function<void()> leave;
  if (flags.async) leave = [&job] { GoToBackground(job.job_id); };
  return AwaitTurn(
      queue, job, cluster.limits(), MaxWaitSeconds(resolved) * 1000, patience,
      [](const std::string& line) { Tell(LocalOptions(), line); }, leave);
}

MirrorOptions MakeMirrorOptions() {
  return {.home = OwnFolder("mirrors"),
          .tools = MakeToolRunner(Environment()),
          .patience = RealPatience(),
          .say = [](const std::string& line) { Tell(LocalOptions(), line); }};
}

// Runs `run` with the directory that stands for one in an object store, which has it all at the
// end.
int OnMirror(absl::StatusOr<std::unique_ptr<Mirror>> mirror, const LocalOptions& options,
             const std::function<int(const std::string& folder)>& run) {
  if (!mirror.ok()) return ExitCodeOf(mirror.status(), options);
  absl::Status status = (*mirror)->Bring(/*to_run=*/true);
  if (status.ok()) {
    status = (*mirror)->StartSending(options.program_dir + "/launch", options.environment);
  }
  if (!status.ok()) return ExitCodeOf(status, options);
  const int code = run((*mirror)->folder());
  if (code == kWrongInput) return code;  // nothing has become of it
  const absl::Status sent = (*mirror)->Finish();
  if (!sent.ok()) ExitCodeOf(sent, options);
  return sent.ok() || code != kSucceeded ? code : kJobFailed;
}

// The same words with the mirrors of job directories in object stores.
absl::StatusOr<CommandContext> OnMirrors(CommandContext context) {
  for (size_t i = 0; i < context.words.size(); ++i) {
    std::string& word = context.words[i];
    const std::string flag = "--job-dir=";
    const bool joined = word.starts_with(flag);
    const std::string address =
        joined ? word.substr(flag.size())
               : (i > 0 && context.words[i - 1] == "--job-dir" ? word : std::string());
    if (!IsAddress(address)) continue;
    MirrorOptions options = MakeMirrorOptions();
    options.say = [&](const std::string& line) { fmt::print(context.err, "{}\n", line); };
    std::string folder = Mirror::FolderOf(address, options.home);
    const auto mirror = Mirror::Open(address, std::move(options));
    // A launch that holds it keeps it up to date.
    const bool held =
        absl::IsFailedPrecondition(mirror.status()) && !Mirror::AddressOf(folder).empty();
    if (!mirror.ok() && !held) return mirror.status();
    if (mirror.ok()) RETURN_IF_ERROR((*mirror)->Bring(/*to_run=*/false));
    word = joined ? flag + folder : folder;
  }
  return context;
}

int RunOnMirrors(const CommandContext& context, int (*run)(const CommandContext&)) {
  const auto here = OnMirrors(context);
  if (here.ok()) return run(*here);
  fmt::print(context.err, "{}\n", std::string(here.status().message()));
  return kWrongInput;
}

// Those of `data` that lie in object stores come to this machine.
absl::Status BringData(const std::vector<std::string>& data, const Say& say) {
  return BringAllData(data, OwnFolder("data"), MakeToolRunner(Environment()), RealPatience(), say);
}

LocalOptions MakeOptions() {
  LocalOptions options;
  options.program_dir = ProgramFolder();
  options.environment = Environment();
  options.term = Variable("TERM");
  options.registry = RegistryFolder();
  options.data_folder = OwnFolder("data");
  return options;
}

int AttachHere(const Job& job, bool cancel, const LocalOptions& options) {
  const LocalJob local =
      MakeJob({.job = job}, UsableCores(), std::max(1, static_cast<int>(job.training().threads())));
  const Cluster& cluster = job.cluster();
  if (cluster.provider() == Cluster::LOCAL) {
    return AttachToKept(local, options, BuildId(), cancel);
  }
  // For machines that take the place of lost ones.
  Plan plan = MakePlan(job, Catalog::BuiltIn());
  PricePlan({.job = job, .folder = PricesFolder(), .environment = Environment()}, &plan);
  return AttachOnProvider({.cluster = cluster,
                           .plan = plan,
                           .build_id = BuildId(),
                           .folder = MachinesFolder(),
                           .facts = PricesFolder(),
                           .owner = Owner(),
                           .make_job = [&local](int) { return local; },
                           .oldest_driver = OldestDriver(job)},
                          options, cancel);
}

// Follows a job that was left, or ends it.
int AttachTo(const Job& job, bool cancel) {
  const LocalOptions options = MakeOptions();
  const std::string& dir = job.training_input().job_dir();
  if (Mirror::AddressOf(dir).empty()) return AttachHere(job, cancel, options);
  return OnMirror(Mirror::OfFolder(dir, MakeMirrorOptions()), options,
                  [&](const std::string&) { return AttachHere(job, cancel, options); });
}

// `mirror`: the job's directory where the job file names one in an object store; else "".
int RunHere(const ResolvedJob& resolved, const Plan& plan, const LaunchFlags& flags,
            const LocalOptions& options, int64_t max_wait_s, const std::string& mirror) {
  const Cluster& cluster = resolved.job.cluster();
  const auto make = [&](int cores, int threads) {
    LocalJob job = MakeJob(resolved, cores, threads);
    if (!mirror.empty()) job.job_dir = mirror;
    if (RentsByType(cluster.provider())) job.dollars_per_hour = plan.usd_per_hour.value_or(0);
    return job;
  };
  const auto make_job = [&make](int threads) { return make(/*cores=*/0, threads); };
  if (cluster.provider() != Cluster::LOCAL) {
    return RunOnProvider({.cluster = cluster,
                          .plan = plan,
                          .max_wait_s = max_wait_s,
                          .yes = flags.yes,
                          .dry_run = flags.dry_run,
                          .build_id = BuildId(),
                          .folder = MachinesFolder(),
                          .facts = PricesFolder(),
                          .owner = Owner(),
                          .make_job = make_job,
                          .oldest_driver = OldestDriver(resolved.job)},
                         options);
  }
  if (flags.dry_run) return kSucceeded;  // the plan is all
  const int cores = UsableCores();
  int threads = 1;
  for (const LocalRole& role : LocalRoles(resolved.job, cores)) {
    threads = std::max(threads, role.threads);
  }
  const LocalJob job = make(cores, threads);
  return options.async ? RunKept(job, options, BuildId()) : RunLocal(job, options);
}

int RunTheJob(const ResolvedJob& resolved, const Plan& plan, const LaunchFlags& flags) {
  LocalOptions options = MakeOptions();
  options.async = flags.async;
  const JobQueue queue = MakeQueue();
  const int64_t began = MonotonicMillis();
  std::unique_ptr<QueueTicket> ticket;
  if (!flags.dry_run) {
    auto turn = AwaitTurnOf(queue, resolved, plan, flags);
    if (!turn.ok()) {
      const int code = ExitCodeOf(turn.status(), options);
      return absl::IsCancelled(turn.status()) ? kInterrupted : code;
    }
    ticket = *std::move(turn);
  }
  const int64_t max_wait_s =
      std::max<int64_t>(1, MaxWaitSeconds(resolved) - (MonotonicMillis() - began) / 1000);
  if (!flags.dry_run) {
    const absl::Status brought =
        BringData(DataOfJob(resolved.job), [&](const std::string& line) { Tell(options, line); });
    if (!brought.ok()) return ExitCodeOf(brought, options);
  }
  const std::string& dir = resolved.job.training_input().job_dir();
  if (!IsAddress(dir) || flags.dry_run) {
    return RunHere(resolved, plan, flags, options, max_wait_s, "");
  }
  return OnMirror(Mirror::Open(dir, MakeMirrorOptions()), options, [&](const std::string& folder) {
    return RunHere(resolved, plan, flags, options, max_wait_s, folder);
  });
}

int BakeTheImage(const ImageWords& words, const ResolvedJob& resolved, const Plan& plan,
                 const LaunchFlags& flags) {
  return BakeImage({.cluster = resolved.job.cluster(),
                    .plan = plan,
                    .image = words.image,
                    .role = words.role,
                    .max_wait_s = MaxWaitSeconds(resolved),
                    .oldest_driver = OldestDriver(resolved.job),
                    .yes = flags.yes,
                    .dry_run = flags.dry_run,
                    .build_id = BuildId(),
                    .folder = MachinesFolder(),
                    .facts = PricesFolder(),
                    .owner = Owner()},
                   MakeOptions());
}

// On a host that the launcher reached, or where a keeper begins with it: words keep DIRECTORY
// PLACE.
int RunNodeCommand(const std::vector<std::string>& words) {
  NodeOptions options;
  options.program_dir = ProgramFolder();
  options.environment = Environment();
  options.home = Variable("HOME");
  options.build_id = BuildId();
  // "client port server port"
  std::istringstream connection(Variable("SSH_CONNECTION"));
  std::string skipped;
  connection >> skipped >> skipped >> options.address;
  int place = 0;
  if (words.size() == 3 && words[0] == "keep" && absl::SimpleAtoi(words[2], &place)) {
    return ServeKeeper(options, words[1], place);
  }
  return ServeNode(options);
}

}  // namespace
}  // namespace muster::cluster

int main(int argc, char** argv) {
  using namespace muster::cluster;
  const RunJob run = RunTheJob;
  const muster::GpuSearch search =
      muster::DefaultGpuSearch(muster::BuildId(), std::getenv("HOME"), std::getenv("VIRTUAL_ENV"));
  const std::vector<Command> commands = {
      {"", "train a job", [&](const CommandContext& context) { return RunTrain(context, run); }},
      {"attach", "follow a job that its launcher has left",
       [](const CommandContext& context) {
         return RunAttachCommand(context, RegistryFolder(), MakeQueue(), AttachTo);
       }},
      {"cost", "what the machines that were rented for a job have cost",
       [](const CommandContext& context) { return RunCostCommand(context, RegistryFolder()); }},
      {"evaluate", "accuracy of a job directory's model on a split of its data, or of other data",
       [](const CommandContext& context) { return RunOnMirrors(context, RunEvaluateCommand); }},
      {"doctor", "whether this machine's GPU can be used, and computes what the CPU does",
       [&](const CommandContext& context) { return RunDoctorCommand(context, search); }},
      {"gc", "give back machines that no living launch holds",
       [](const CommandContext& context) {
         return RunGcCommand(
             context, {.folder = MachinesFolder(), .owner = Owner(), .environment = Environment()});
       }},
      {"image", "keep a machine that is prepared for jobs as an image of its cloud; list, delete",
       [](const CommandContext& context) {
         return RunImageCommand(
             context, "muster-" + RandomHex(8), BakeTheImage,
             [](const CommandContext& inner) { return RunKeptImages(inner, Environment()); });
       }},
      {"jobs", "list, describe, cancel the jobs started from this machine, and show their logs",
       [](const CommandContext& context) {
         return RunJobsCommand(context, RegistryFolder(), MachinesFolder(), MakeQueue(), AttachTo);
       }},
      {"node", "what the launcher runs on other hosts, which roles are started by",
       [](const CommandContext& context) { return RunNodeCommand(context.words); }},
      {"ssh", "a shell on the host of a job's role, or its ports here",
       [](const CommandContext& context) {
         return RunSshCommand(context, {.registry = RegistryFolder(),
                                        .machines = MachinesFolder(),
                                        .environment = Environment()});
       }},
      {"predict", "say what clips are, with the model of a job directory",
       [](const CommandContext& context) { return RunOnMirrors(context, RunPredictCommand); }},
      {"upload", "send a job's directory to its object store again",
       [](const CommandContext& context) {
         return RunUploadCommand(context, RegistryFolder(), MakeMirrorOptions());
       }},
  };
  CommandContext context;
  context.words.assign(argv + 1, argv + argc);
  context.resolve.find_gpu = [&] { return muster::GpuChain::Find(search).status(); };
  context.price_plan = [](const muster::Job& job, const LaunchFlags& flags, Plan* plan) {
    PricePlan({.job = job,
               .may_ask = !flags.dry_run,
               .folder = PricesFolder(),
               .environment = Environment()},
              plan);
  };
  context.bring_data = [&context](const std::vector<std::string>& data) {
    setenv(muster::worker::kDataVariable, OwnFolder("data").c_str(), /*overwrite=*/1);
    return BringData(data, [&](const std::string& line) { fmt::print(context.err, "{}\n", line); });
  };
  context.resolve.build = FactsOfBuild();
  context.resolve.now = std::chrono::system_clock::now();
  return RunCommand(commands, context);
}
