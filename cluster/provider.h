// Provider: where a job's machines come from, through the user's own command line of it: asks for
// them, finds them again by the tag that each of them carries, and gives them back.
//
// Owned by the launcher's main thread. Everything is named by the job, so that each call may be
// repeated: after an answer that was lost, and by another launcher.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/day_folder.h"
#include "cluster/hosts_run.h"
#include "cluster/region_prices.h"
#include "cluster/spot_prices.h"
#include "cluster/tool.h"
#include "configs/tiers.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Runs a command to its end (RunTool): what tests put something else in place of. --dry-run's fails
// with Unimplemented: then a provider goes on with "$NAME" for what it would have been told, as far
// as that shows the commands that follow.
using ToolRunner = std::function<absl::StatusOr<ToolResult>(
    const std::vector<std::string>& words, int64_t timeout_ms, const std::string& input)>;

// What makes a provider's questions quicker; without them it asks one after the other, each time.
struct Shortcuts {
  // Starts a command that the ToolRunner will be asked for, beside others.
  std::function<void(const std::vector<std::string>& words)> begin = nullptr;
  // Keeps for a day what stays as it is so long: which zones have a machine type, what an image is.
  DayFolder folder{""};
};

// Where machines can be; "" where the provider has no such thing.
struct Place {
  std::string region, zone;
  bool operator==(const Place&) const = default;
};

// The machines of one role.
struct MachineGroup {
  Role role = Role::kMaster;
  int64_t count = 0;
  int64_t first_index = 0;  // within the role; the others follow
  std::string type;  // as the provider calls it: "g6.xlarge"; made to measure: as the job file does
  std::string image;  // container that the job file names for it, or ""
  int vcpus = 0;      // of one machine, as are the following
  double memory_gb = 0;
  std::string accelerator;  // of the catalogue: "NVIDIA_TESLA_T4"; "" for none
  int64_t gpus = 0;
  bool spot = false;
  double max_price = 0;  // US dollars an hour of one spot machine; 0: as on demand
};

// All machines of a job, in one place.
struct MachineOrder {
  std::string job_id;
  std::string run;    // of this launch alone
  std::string owner;  // "user@host"
  int attempt = 0;    // counted up for each place; with `run` it names what is asked for
  Place place;
  std::vector<MachineGroup> groups;  // the master's first
  int64_t lifetime_s = 0;            // after which the provider itself ends them
};

enum class MachineState {
  kPending,  // asked for, or starting
  kRunning,
  kStopped,  // does not run, and its disk still costs
  kGone,     // ended or ending: costs nothing any more
};

struct Machine {
  std::string id;  // the provider's
  std::string job_id, owner;
  Role role = Role::kMaster;
  int index = 0;  // within the role
  int attempt = 0;
  Place place;
  MachineState state = MachineState::kPending;
  std::string address;  // at which the launcher reaches it; "" as long as there is none
  std::string reason;   // why it waits, or ended; may be ""
  bool spot = false;
};

// An image that MakeImage has made, or what is left of one.
struct KeptImage {
  std::string name;
  std::string id;           // as the job file has it; "": only its disks are left
  std::string region;       // "": the provider's images belong to none, or it is the login's own
  std::string state, made;  // in the provider's words
  std::string owner;        // "user@host"; "": not told
  int64_t gb = 0;
  std::vector<std::string> disks;  // that lie behind it, where those are things of their own
  bool ours = true;                // it carries the tag of MakeImage
};

// What Create fails with where another place may do: no room in the zone; no quota for so many in
// the region.
inline constexpr auto kNoRoomInZone = absl::StatusCode::kResourceExhausted;
inline constexpr auto kNoQuotaInRegion = absl::StatusCode::kOutOfRange;

// What a person wants of a machine.
struct TerminalWish {
  std::vector<std::string> forwards;  // ports of it here, as ssh's -L has them
  std::vector<std::string> command;   // whose words arrive as they are; none: a shell
  bool types = false;                 // at a terminal

  std::vector<std::string> CommandOrShell() const {
    return command.empty() ? std::vector<std::string>{"/bin/sh"} : command;
  }
};

class Provider {
 public:
  virtual ~Provider() = default;

  // Where to try, in order; at least one.
  virtual std::vector<Place> Places() const = 0;

  // Asks what can be known before anything is made: whether the command line is there and logged
  // in, permissions, names, quota. Places() may be fewer afterwards. Returns lines for the user,
  // what was found; fails with one that says what to do.
  virtual absl::StatusOr<std::vector<std::string>> Check(const MachineOrder& order) = 0;

  // Asks for all machines of `order`: all of a group or none of it. `before` is told of each thing
  // that is about to be asked for, by name, each time that it is, and stops it all when it fails.
  // Fails with kNoRoomInZone or kNoQuotaInRegion, having got nothing for the last name; otherwise
  // for good, or without an answer. Machines of earlier groups may be there after a failure:
  // whoever called destroys them.
  virtual absl::Status Create(
      const MachineOrder& order,
      const std::function<absl::Status(const std::string& name)>& before) = 0;

  // The machines that carry the tag of `job_id` (of any job of ours when it is ""), in all of
  // Places(); those that are gone for as long as the provider tells of them.
  virtual absl::StatusOr<std::vector<Machine>> List(const std::string& job_id) = 0;

  // Begins to end all that carries the tag of `job_id`, machines or not (disks, services, alarms).
  // OK when there is nothing; fails when some may not have been told to end.
  virtual absl::Status Destroy(const std::string& job_id) = 0;

  // Begins to end one machine. OK when it is gone already.
  virtual absl::Status End(const Machine& machine) = 0;
  // Begins to stop all that run of the job's machines, such that their disks stay and nothing else
  // that was asked for deletes them later; spot machines are ended. OK when none runs.
  virtual absl::Status Stop(const std::string& job_id) {
    (void)job_id;
    return absl::FailedPreconditionError("the provider has no machines that can be stopped");
  }
  // Makes an image of a machine that was told to stop, and waits until machines can be made of it;
  // its name, as the job file has it. `name`: that nobody else gives. What was begun is not undone
  // when the user interrupts.
  virtual absl::StatusOr<std::string> MakeImage(const Machine& machine, const std::string& name) {
    (void)machine;
    (void)name;
    return absl::FailedPreconditionError("the provider keeps no images of machines");
  }
  // The fields of a job file that name it, and the command that deletes it.
  virtual std::string ImageFields(const Machine& machine, const std::string& image) const {
    (void)machine;
    return image;
  }
  virtual std::string DeleteImageCommand(const Machine& machine, const std::string& image) const {
    (void)machine;
    return image;
  }
  // The images that MakeImage has made in all of Places(); with a `name`, which may be an id, those
  // that are called so, also of others.
  virtual absl::StatusOr<std::vector<KeptImage>> Images(const std::string& name) {
    (void)name;
    return absl::FailedPreconditionError("the provider keeps no images of machines");
  }
  // Deletes it with what lies behind it. OK when it is gone already, so that it may be repeated.
  virtual absl::Status DeleteImage(const KeptImage& image) {
    (void)image;
    return absl::FailedPreconditionError("the provider keeps no images of machines");
  }
  // Whether one machine more can be had while the others run, so that one that is lost is replaced.
  virtual bool CanReplace() const { return true; }

  // Whether a keeper of the job (cluster/keeper.h) begins with each machine, since nothing that the
  // launcher starts there outlives it. The hosts' places are in the order of roles and indices.
  virtual bool HasKeepers() const { return false; }

  // What machines of these types cost on demand, in all regions. Fails where the provider does not
  // tell.
  virtual absl::StatusOr<std::vector<RegionPrice>> OnDemandPrices(
      const std::set<std::string>& types) {
    (void)types;
    return absl::NotFoundError("the provider's command line does not tell it");
  }

  // Begins what OnDemandPrices and SpotPrices ask for of such types, where there is a shortcut.
  virtual void BeginPrices(const std::set<std::string>& on_demand,
                           const std::set<std::string>& spot) {
    (void)on_demand;
    (void)spot;
  }

  // What spot machines of these types have cost in the last day, in all regions of Places(). Fails
  // where the provider does not tell.
  virtual absl::StatusOr<std::vector<SpotPrice>> SpotPrices(const std::set<std::string>& types) {
    (void)types;
    return absl::NotFoundError("the provider's command line does not tell it");
  }

  // The way to `launch node` on a machine that runs.
  virtual absl::StatusOr<RunHost> Reach(const Machine& machine) = 0;

  // The same for a person: the host of a machine that is reached by ssh, or else the words of a
  // command, the first a program of PATH. Fails where the wish cannot be met.
  virtual std::optional<SshHost> SshHostOf(const Machine& machine) const {
    (void)machine;
    return std::nullopt;
  }
  virtual absl::StatusOr<std::vector<std::string>> Terminal(const Machine& machine,
                                                            const TerminalWish& wish) const {
    (void)machine;
    (void)wish;
    return absl::UnimplementedError("its machines are reached by ssh");
  }

  // The way to the job's folder where that can be had without its machines, which are given back;
  // none where it is gone with them.
  virtual std::optional<RunHost> ReachFolder(const std::string& job_id) {
    (void)job_id;
    return std::nullopt;
  }

  // The command that shows the user what there is.
  virtual std::string ListCommand(const std::string& job_id) const = 0;
};

}  // namespace muster::cluster
