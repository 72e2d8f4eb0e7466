#include "cluster/image_bake.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "cluster/agree.h"
#include "cluster/ask_hosts.h"
#include "cluster/await_hosts.h"
#include "cluster/aws.h"
#include "cluster/command.h"
#include "cluster/gpu_driver.h"
#include "cluster/machine_key.h"
#include "cluster/node_set.h"
#include "cluster/printable.h"
#include "cluster/providers.h"
#include "cluster/random_hex.h"
#include "cluster/shown_commands.h"
#include "cluster/signals.h"
#include "cluster/ssh_provider.h"
#include "cluster/watchdog.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kLifetimeS = 7'200;  // a disk of some hundred GB takes its time
constexpr int64_t kReachMs = 300'000, kSendMs = 900'000, kTidyMs = 60'000, kStopMs = 300'000,
                  kLookMs = 2'000;
constexpr size_t kRunBytes = 8;

class Baker {
 public:
  Baker(const ImageBake& bake, const LocalOptions& options)
      : bake_(bake), options_(options), tools_(MakeTools(options.environment)) {
    patience_.now_ms = UnixMillis;
    patience_.pause = [this](int64_t ms) {
      pollfd interrupt{signals_.fd(), POLLIN, 0};
      poll(&interrupt, 1, static_cast<int>(ms));
      return !signals_.Take();
    };
    order_.run = "mu" + RandomHex(kRunBytes);
    order_.job_id = "bake_" + order_.run;
    order_.owner = bake.owner;
    order_.lifetime_s = kLifetimeS;
    const auto role = std::ranges::find(bake.plan.roles, bake.role, &PlanRole::role);
    order_.groups = {{.role = bake.role,
                      .count = 1,
                      .type = role->rented_type.empty() ? role->machine_type : role->rented_type,
                      .vcpus = role->vcpus,
                      .memory_gb = role->memory_gb,
                      .accelerator = role->accelerator,
                      .gpus = role->accelerator_count}};
    // What a spot machine would save may be lost with it.
    usd_per_hour_ = role->on_demand_usd_per_hour.value_or(role->usd_per_hour.value_or(0));
  }
  ~Baker() { RemoveMachineKey(bake_.folder, order_.job_id); }
  Baker(const Baker&) = delete;
  Baker& operator=(const Baker&) = delete;

  absl::StatusOr<int> Run() {
    if (bake_.dry_run) return Show();
    ASSIGN_OR_RETURN(const std::string ssh_program, FindSsh(options_.environment));
    ASSIGN_OR_RETURN(const MachineKey key, MakeMachineKey(bake_.folder, order_.job_id, tools_.run));
    ssh_ = key.ssh;
    public_key_ = key.public_key;
    ssh_.set_directory(MachineFolder(bake_.cluster));
    const auto provider = MakeProvider(
        {.cluster = bake_.cluster,
         .tools = tools_.run,
         .patience = patience_,
         .public_key = key.public_key,
         .shortcuts = {.begin = tools_.begin, .folder = FactsOf(bake_.facts, options_.environment)},
         .reach =
             [&](const SshHost& host) {
               return SshRunHost(ssh_, host, ssh_program, options_.environment, bake_.build_id);
             },
         .environment = options_.environment,
         .build_id = bake_.build_id});
    ASSIGN_OR_RETURN(const std::vector<std::string> found, provider->Check(order_));
    for (const std::string& line : found) Say(line);
    RETURN_IF_ERROR(CheckName(*provider));
    const std::string price = usd_per_hour_ > 0
                                  ? fmt::format(
                                        "at ${:.2f} an hour, ${:.2f} at most, and an image whose "
                                        "storage costs until it is deleted",
                                        usd_per_hour_, usd_per_hour_ * kLifetimeS / 3600)
                                  : "; what it costs is not known here";
    RETURN_IF_ERROR(Agree("1 machine " + price, bake_.yes, signals_, SayTo()));
    const JournalHead head{
        .job_id = order_.job_id, .run = order_.run, .owner = bake_.owner, .cluster = bake_.cluster};
    ASSIGN_OR_RETURN(const std::unique_ptr<MachineJournal> journal,
                     MachineJournal::Begin(bake_.folder, head, patience_.now_ms()));
    NodeSet set(*provider, *journal, patience_, SayTo());
    ASSIGN_OR_RETURN(const std::vector<Machine> machines,
                     set.Create({.order = order_, .max_wait_ms = bake_.max_wait_s * 1000}));
    if (machines.empty()) return kInterrupted;
    const auto image = Bake(*provider, *journal, machines.front());
    RETURN_IF_ERROR(set.GiveBack());
    if (absl::IsCancelled(image.status())) return kInterrupted;
    RETURN_IF_ERROR(image.status());
    Say("1 machine given back");
    Say(fmt::format("image {}; for the job file: {}\nit costs until it is deleted: {}", *image,
                    provider->ImageFields(machines.front(), *image),
                    provider->DeleteImageCommand(machines.front(), *image)));
    return kSucceeded;
  }

 private:
  void Say(const std::string& line) const { Tell(options_, line); }
  cluster::Say SayTo() const {
    return [this](const std::string& line) { Say(line); };
  }

  absl::StatusOr<int> Show() {
    const auto provider = MakeProvider({.cluster = bake_.cluster,
                                        .tools = ShownCommands(SayTo()),
                                        .patience = patience_,
                                        .public_key = "$PUBLIC_KEY"});
    Say("\n# may it be done, and where?");
    RETURN_IF_ERROR(provider->Check(order_).status());
    (void)provider->Images(bake_.image).ok();
    Say("\n# a machine");
    order_.place = provider->Places().front();
    order_.attempt = 1;
    RETURN_IF_ERROR(provider->Create(order_, [](const std::string&) { return absl::OkStatus(); }));
    Say("\n# the image, once the programs are there and it has stopped");
    RETURN_IF_ERROR(provider->Stop(order_.job_id));
    const Machine machine{.id = "$ID", .job_id = order_.job_id, .place = order_.place};
    RETURN_IF_ERROR(provider->MakeImage(machine, bake_.image).status());
    Say("\n# at the end, or when anything fails");
    RETURN_IF_ERROR(provider->Destroy(order_.job_id));
    return kSucceeded;
  }

  // Whose name another image has would be taken for what an earlier call has made.
  absl::Status CheckName(Provider& provider) const {
    ASSIGN_OR_RETURN(const std::vector<KeptImage> there, provider.Images(bake_.image));
    if (there.empty()) return absl::OkStatus();
    const KeptImage& image = there.front();
    return absl::FailedPreconditionError(
        fmt::format("there is an image {} already{}: write another --name{}", bake_.image,
                    image.region.empty() ? "" : " in " + image.region,
                    image.ours ? ", or launch image delete " + bake_.image : ""));
  }

  absl::StatusOr<std::string> Bake(Provider& provider, MachineJournal& journal,
                                   const Machine& machine) {
    ASSIGN_OR_RETURN(const RunHost host, provider.Reach(machine));
    Say(fmt::format("1 machine runs in {}; waiting for it to be reached", machine.place.zone));
    RETURN_IF_ERROR(AwaitHosts({host}, kReachMs, patience_));
    if (bake_.oldest_driver > 0 && order_.groups.front().gpus > 0) {
      RETURN_IF_ERROR(CheckDrivers({host}, bake_.oldest_driver, bake_.cluster.install_driver(),
                                   patience_, SayTo()));
    }
    RETURN_IF_ERROR(BringPrograms(host));
    RETURN_IF_ERROR(Tidy(host));
    RETURN_IF_ERROR(AwaitStopped(provider, machine));
    Say(fmt::format("making image {}", bake_.image));
    RETURN_IF_ERROR(journal.Asking("image " + bake_.image, patience_.now_ms()));
    return provider.MakeImage(machine, bake_.image);
  }

  // Of "ssh-ed25519 AAAA… comment".
  std::string KeyItself() const {
    const size_t from = public_key_.find(' ') + 1;
    return public_key_.substr(from, public_key_.find_first_of(" \n", from) - from);
  }

  // Its node says hello, so they run there, too.
  absl::Status BringPrograms(const RunHost& host) {
    ASSIGN_OR_RETURN(const std::unique_ptr<NodeLink> link,
                     NodeLink::Start(host.link, BundleFor(options_)));
    const int64_t until = MonotonicMillis() + kSendMs;
    while (!link->hello()) {
      RETURN_IF_ERROR(link->status());
      if (MonotonicMillis() > until) {
        return absl::DeadlineExceededError(fmt::format("host {} has not got the programs in {}",
                                                       host.link.name, FormatDuration(kSendMs)));
      }
      std::vector<pollfd> fds = {{signals_.fd(), POLLIN, 0}};
      link->Watch(&fds);
      poll(fds.data(), fds.size(), static_cast<int>(kLookMs));
      if (fds[0].revents != 0 && signals_.Take() != 0) return absl::CancelledError("interrupted");
      link->Pump([](const NodeEvent&) {});
    }
    return absl::OkStatus();
  }

  // What is of this machine alone must not be every later one's: the key that it lets in, and the
  // timers of its lifetime, which run on as long as it does.
  absl::Status Tidy(const RunHost& host) {
    const std::string script = fmt::format(
        "s=; [ \"$(id -u)\" = 0 ] || s='sudo -n'; $s rm -f {}; rm -f ~/{} ~/{} && "
        "sed -i '\\|{}|d' ~/.ssh/authorized_keys && sync",
        kTimersAtStart, kMachineEndsFile, kMachineStaysFile, KeyItself());
    ASSIGN_OR_RETURN(const std::vector<ToolResult> tidied,
                     AskHosts({host}, script, kTidyMs, patience_));
    if (tidied.front().code == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("host {} cannot be made ready for an image: {}", host.link.name,
                    Printable(tidied.front().err)));
  }

  absl::Status AwaitStopped(Provider& provider, const Machine& machine) {
    const int64_t until = patience_.now_ms() + kStopMs;
    while (patience_.now_ms() < until) {
      RETURN_IF_ERROR(provider.Stop(order_.job_id));
      ASSIGN_OR_RETURN(const std::vector<Machine> listed, provider.List(order_.job_id));
      const auto it = std::ranges::find(listed, machine.id, &Machine::id);
      if (it == listed.end() || it->state == MachineState::kGone) {
        return absl::UnavailableError("the machine was taken away");
      }
      if (it->state == MachineState::kStopped) return absl::OkStatus();
      if (!patience_.pause(kLookMs)) return absl::CancelledError("interrupted");
    }
    return absl::DeadlineExceededError(
        fmt::format("the machine does not stop within {}", FormatDuration(kStopMs)));
  }

  const ImageBake& bake_;
  const LocalOptions& options_;
  const Tools tools_;
  Signals signals_;
  Patience patience_;
  MachineOrder order_;
  double usd_per_hour_ = 0;
  Ssh ssh_;
  std::string public_key_;  // that the machine lets in
};

}  // namespace

int BakeImage(const ImageBake& bake, const LocalOptions& options) {
  Baker baker(bake, options);
  return ExitCodeOf(baker.Run(), options);
}

}  // namespace muster::cluster
