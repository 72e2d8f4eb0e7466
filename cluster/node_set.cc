#include "cluster/node_set.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "telemetry/time.h"

namespace muster::cluster {
namespace {

// Until whatever was asked for is listed, by the clouds' experience with a large margin.
constexpr int64_t kAppearMs = 8'000;
constexpr int64_t kGiveBackMs = 120'000;
// For machines of one place to run, once they were granted.
constexpr int64_t kPlaceMs = 300'000;
constexpr int64_t kFirstLookMs = 500, kMaxLookMs = 5'000;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

bool IsRefusal(const absl::Status& status) {
  return status.code() == kNoRoomInZone || status.code() == kNoQuotaInRegion;
}

std::string Name(const Place& place) {
  return !place.zone.empty() ? place.zone : !place.region.empty() ? place.region : "here";
}

std::string NameOf(const Machine& machine) {
  return fmt::format("{} {} ({})", RoleName(machine.role), machine.index, machine.id);
}

int64_t Left(const std::vector<Machine>& machines) {
  return std::ranges::count_if(machines,
                               [](const Machine& m) { return m.state != MachineState::kGone; });
}

}  // namespace

NodeSet::~NodeSet() {
  if (!asked_) return;
  if (const absl::Status given = GiveBack(); !given.ok()) say_(Text(given));
}

absl::Status NodeSet::GiveBack() {
  asked_ = false;
  return GiveBackMachines(provider_, journal_, patience_);
}

absl::StatusOr<bool> IsLeft(Provider& provider, const MachineJournal& journal, int64_t now_ms) {
  if (journal.left_until_ms() <= now_ms) return false;
  ASSIGN_OR_RETURN(const std::vector<Machine> machines, provider.List(journal.head().job_id));
  return std::ranges::any_of(machines, [](const Machine& machine) {
    return machine.state == MachineState::kRunning || machine.state == MachineState::kPending;
  });
}

Patience RealPatience() {
  return {.now_ms = UnixMillis, .pause = [](int64_t ms) {
            poll(nullptr, 0, static_cast<int>(ms));
            return true;
          }};
}

std::string LeftText(const MachineJournal& journal) {
  const std::string& job = journal.head().job_id;
  return fmt::format(
      "it was left to go on until {} at the latest: launch attach {} follows it, launch jobs "
      "cancel {} ends it",
      FormatTime(journal.left_until_ms()), job, job);
}

absl::Status EndMachines(Provider& provider, const std::string& job, int64_t asked_ms,
                         const Patience& patience) {
  const int64_t began = patience.now_ms();
  absl::Status last;
  int64_t left = 0;
  for (int64_t pause = kFirstLookMs;; pause = std::min(pause * 2, kMaxLookMs)) {
    last = provider.Destroy(job);
    if (last.ok()) {
      const int64_t looked = patience.now_ms();
      const auto machines = provider.List(job);
      last = machines.status();
      left = machines.ok() ? Left(*machines) : 0;
      if (machines.ok() && left == 0 && looked >= asked_ms + kAppearMs) {
        return absl::OkStatus();
      }
    }
    if (patience.now_ms() - began > kGiveBackMs) break;
    (void)patience.pause(pause);
  }
  const std::string what = last.ok()
                               ? fmt::format("{} machines of job {} are left", left, job)
                               : fmt::format("machines of job {} may be left: {}", job, Text(last));
  return absl::UnavailableError(fmt::format("{}; run launch gc later, and look for yourself: {}",
                                            what, provider.ListCommand(job)));
}

absl::Status GiveBackMachines(Provider& provider, MachineJournal& journal,
                              const Patience& patience) {
  // Where nothing was asked for, whatever is there is another's.
  if (journal.asked_ms() != 0) {
    RETURN_IF_ERROR(EndMachines(provider, journal.head().job_id, journal.asked_ms(), patience));
  }
  return journal.Close();
}

absl::StatusOr<std::vector<Machine>> NodeSet::Create(NodeSetOptions options) {
  MachineOrder& order = options.order;
  const int64_t deadline = patience_.now_ms() + options.max_wait_ms;
  const auto there = provider_.List(order.job_id);
  if (!there.ok() || Left(*there) > 0) {
    RETURN_IF_ERROR(journal_.Close());
    RETURN_IF_ERROR(there.status());
    return absl::FailedPreconditionError(
        fmt::format("there are {} machines of a job of this name already, of {}: give this one "
                    "another name with --job-id, or look: {}",
                    Left(*there), there->front().owner, provider_.ListCommand(order.job_id)));
  }
  std::set<std::string> full_regions;
  std::string last;
  asked_ = true;
  for (const Place& place : provider_.Places()) {
    if (full_regions.contains(place.region)) continue;
    order.place = place;
    ++order.attempt;
    // A provider without places has a queue, in which the job waits as long as the user lets it.
    const bool queued = place == Place();
    const int64_t until = queued ? deadline : patience_.now_ms() + kPlaceMs;
    auto machines = TryPlace(order, std::min(deadline, until), [this] {
      return EndMachines(provider_, journal_.head().job_id, journal_.asked_ms(), patience_);
    });
    if (machines.ok() || !IsRefusal(machines.status()) || queued) return machines;
    last = fmt::format("{}: {}", Name(place), Text(machines.status()));
    say_(last);
    if (machines.status().code() == kNoQuotaInRegion) full_regions.insert(place.region);
    if (patience_.now_ms() >= deadline) break;
  }
  return absl::ResourceExhaustedError(
      fmt::format("no place has the machines; the last that was asked says {}", last));
}

absl::StatusOr<std::vector<Machine>> NodeSet::TryPlace(const MachineOrder& order,
                                                       int64_t deadline_ms,
                                                       const std::function<absl::Status()>& end) {
  int asked = 0;
  absl::Status created = provider_.Create(order, [&](const std::string& name) {
    ++asked;
    return journal_.Asking(name, patience_.now_ms());
  });
  auto machines = created.ok() ? AwaitRunning(order, deadline_ms)
                               : absl::StatusOr<std::vector<Machine>>(created);
  if (machines.ok() && !machines->empty()) return machines;
  if (asked > 1 || !IsRefusal(created)) {
    RETURN_IF_ERROR(end());
  } else {
    // A refusal of the very first thing leaves nothing to look for, or to wait for.
    journal_.NoteAsked(0);
  }
  return machines;
}

absl::StatusOr<Machine> NodeSet::CreateOne(MachineOrder order, int64_t max_wait_ms) {
  const int64_t deadline = patience_.now_ms() + max_wait_ms;
  const std::string region = order.place.region;
  absl::Status last = absl::ResourceExhaustedError("its region has no place any more");
  for (const Place& place : provider_.Places()) {
    if (place.region != region) continue;
    order.place = place;
    const auto machines = TryPlace(order, std::min(deadline, patience_.now_ms() + kPlaceMs),
                                   [&] { return EndAttempt(order); });
    if (machines.ok() && machines->empty()) return absl::CancelledError("interrupted");
    if (machines.ok()) return machines->front();
    if (!IsRefusal(machines.status())) return machines.status();
    last = machines.status();
    say_(fmt::format("{}: {}", Name(place), Text(last)));
    if (last.code() == kNoQuotaInRegion || patience_.now_ms() >= deadline) break;
    ++order.attempt;
  }
  return last;
}

absl::Status NodeSet::EndAttempt(const MachineOrder& order) {
  const int64_t began = patience_.now_ms();
  absl::Status last = absl::OkStatus();
  for (int64_t pause = kFirstLookMs; patience_.now_ms() - began <= kGiveBackMs;
       pause = std::min(pause * 2, kMaxLookMs)) {
    const int64_t looked = patience_.now_ms();
    const auto machines = provider_.List(order.job_id);
    last = machines.status();
    bool left = !machines.ok();
    for (const Machine& machine : machines.ok() ? *machines : std::vector<Machine>()) {
      if (machine.attempt != order.attempt || machine.state == MachineState::kGone) continue;
      left = true;
      last.Update(provider_.End(machine));
    }
    if (!left && looked >= journal_.asked_ms() + kAppearMs) return absl::OkStatus();
    (void)patience_.pause(pause);
  }
  return absl::UnavailableError(fmt::format(
      "a machine of job {} may be left{}{}; it goes with the job, and look for "
      "yourself: {}",
      order.job_id, last.ok() ? "" : ": ", Text(last), provider_.ListCommand(order.job_id)));
}

absl::StatusOr<std::vector<Machine>> NodeSet::AwaitRunning(const MachineOrder& order,
                                                           int64_t deadline_ms) {
  std::map<Role, int64_t> wanted;
  int64_t total = 0;
  for (const MachineGroup& group : order.groups) {
    wanted[group.role] += group.count;
    total += group.count;
  }
  std::string told;
  std::map<std::string, std::string> seen;     // id, name: some clouds list what is gone no more
  const bool queued = order.place == Place();  // then another may come for it
  for (int64_t pause = kFirstLookMs;; pause = std::min(pause * 2, kMaxLookMs)) {
    auto listed = provider_.List(order.job_id);
    std::vector<Machine> machines;
    std::string waits_for = listed.ok() ? "" : Text(listed.status());
    bool all_run = listed.ok();
    for (Machine& machine : listed.ok() ? *listed : machines) {
      if (machine.attempt != order.attempt) continue;
      if (machine.state == MachineState::kGone || machine.state == MachineState::kStopped) {
        return absl::Status(kNoRoomInZone,
                            fmt::format("{} was taken away: {}", NameOf(machine), machine.reason));
      }
      all_run &= machine.state == MachineState::kRunning && !machine.address.empty();
      if (!machine.reason.empty()) {
        waits_for = fmt::format("{}: {}", NameOf(machine), machine.reason);
      }
      machines.push_back(std::move(machine));
    }
    for (const Machine& machine : machines) seen[machine.id] = NameOf(machine);
    for (const auto& [id, name] : seen) {
      const auto is_it = [&id = id](const Machine& machine) { return machine.id == id; };
      if (queued || !listed.ok() || std::ranges::any_of(machines, is_it)) continue;
      return absl::Status(kNoRoomInZone,
                          fmt::format("{} was taken away: it is listed no more", name));
    }
    std::map<Role, int64_t> here;
    for (const Machine& machine : machines) ++here[machine.role];
    if (all_run && here == wanted) {
      std::ranges::sort(machines, {}, [](const Machine& m) { return std::tuple(m.role, m.index); });
      return machines;
    }
    if (static_cast<int64_t>(machines.size()) > total) {
      return absl::InternalError(
          fmt::format("there are {} machines of job {}, where {} were asked "
                      "for",
                      machines.size(), order.job_id, total));
    }
    if (patience_.now_ms() > deadline_ms) {
      return absl::Status(kNoRoomInZone,
                          fmt::format("{} of {} machines were there in time{}{}", machines.size(),
                                      total, waits_for.empty() ? "" : "; ", waits_for));
    }
    if (waits_for != std::exchange(told, waits_for) && !waits_for.empty()) say_(waits_for);
    if (!patience_.pause(pause)) return std::vector<Machine>();
  }
}

}  // namespace muster::cluster
