#include "cluster/machine_steward.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cluster/printable.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

// Between two looks at a machine that runs and is not reached.
constexpr int64_t kLookAgainMs = 5'000;
// For one machine, in all zones of a region.
constexpr int64_t kMaxWaitMs = 1'200'000;
// A search may try so many zones.
constexpr int kAttempts = 100;
constexpr char kSays[] = "says", kRuns[] = "runs", kFound[] = "found", kNone[] = "none",
               kUnknown[] = "unknown";

std::set<std::string> SpotTypes(const MachineOrder& order) {
  std::set<std::string> types;
  for (const MachineGroup& group : order.groups) {
    if (group.spot) types.insert(group.type);
  }
  return types;
}

std::string OneLine(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::ranges::replace(text, '\t', ' ');
  return text;
}

// What became of `machine`, and another one in its place where it is gone; in a process of its own.
void Look(Provider& provider, MachineJournal& journal, const Patience& patience,
          const Machine& machine, const MachineOrder& order, bool ends, bool give_up,
          const SideTask::Tell& tell) {
  const auto fail = [&](const absl::Status& status) {
    tell(fmt::format("{}\t{}", kNone, OneLine(std::string(status.message()))));
  };
  if (!ends) {
    const auto machines = provider.List(order.job_id);
    // Silence of both is no end.
    if (!machines.ok()) {
      return tell(
          fmt::format("{}\t{}", kUnknown, OneLine(std::string(machines.status().message()))));
    }
    const bool runs = std::ranges::any_of(*machines, [&](const Machine& m) {
      return m.id == machine.id &&
             (m.state == MachineState::kRunning || m.state == MachineState::kPending);
    });
    if (runs && !give_up) return tell(kRuns);
    if (runs) {
      if (const absl::Status ended = provider.End(machine); !ended.ok()) return fail(ended);
    }
  }
  NodeSet set(provider, journal, patience,
              [&](const std::string& line) { tell(fmt::format("{}\t{}", kSays, OneLine(line))); });
  const auto made = set.CreateOne(order, kMaxWaitMs);
  if (!made.ok()) return fail(made.status());
  tell(fmt::format("{}\t{}\t{}\t{}\t{}\t{}", kFound, made->id, made->place.region, made->place.zone,
                   made->address, made->attempt));
}

}  // namespace

MachineSteward::MachineSteward(Options options, std::vector<Machine> machines, int64_t began_ms)
    : options_(std::move(options)),
      began_ms_(began_ms),
      machines_(std::move(machines)),
      bills_(machines_.size()),
      prices_([this] { return options_.provider.SpotPrices(SpotTypes(options_.order)); },
              options_.keep, options_.rent) {
  for (size_t i = 0; i < machines_.size(); ++i) Count(i, began_ms);
  next_attempt_ = options_.order.attempt + 1;
  for (const Machine& machine : machines_) {
    next_attempt_ = std::max(next_attempt_, machine.attempt + 1);
  }
}

const MachineGroup* MachineSteward::GroupOf(Role role) const {
  for (const MachineGroup& group : options_.order.groups) {
    if (group.role == role) return &group;
  }
  return nullptr;
}

std::string MachineSteward::NameOf(size_t host) const {
  return fmt::format("{}-{}", RoleName(machines_[host].role), machines_[host].index);
}

void MachineSteward::Count(size_t host, int64_t now_ms) {
  const Machine& machine = machines_[host];
  bills_[host] = options_.rent->bill.Begin(options_.price(machine.role), now_ms);
  const MachineGroup* group = GroupOf(machine.role);
  if (group != nullptr && group->spot) {
    prices_.Add(bills_[host], group->type, machine.place.zone);
  }
}

bool MachineSteward::Replaces(size_t host) const {
  const MachineGroup* group = GroupOf(machines_[host].role);
  return group != nullptr && group->spot;
}

void MachineSteward::Replace(size_t host, bool ends) {
  const int64_t now = MonotonicMillis();
  const auto [it, is_new] = searches_.try_emplace(host);
  it->second.ends |= ends;
  if (is_new) it->second.begun_ms = now;
}

void MachineSteward::Watch(std::vector<pollfd>* fds) const {
  prices_.Watch(fds);
  for (const auto& [host, search] : searches_) {
    if (search.task != nullptr) fds->push_back({search.task->fd(), POLLIN, 0});
  }
}

void MachineSteward::Tick() {
  prices_.Tick();
  const int64_t now = MonotonicMillis();
  std::vector<size_t> over;
  for (auto& [host, search] : searches_) {
    if (search.task == nullptr) {
      if (now >= search.next_ms) Begin(host, search);
      continue;
    }
    options_.journal.NoteAsked(options_.patience.now_ms());
    const bool goes_on = search.task->Read(
        [&, host = host](const std::string& line) { TakeLine(host, search, line); });
    if (goes_on) continue;
    search.task.reset();
    if (!search.answered) search.next_ms = now + kLookAgainMs;
    if (search.answered && search.next_ms == 0) over.push_back(host);
  }
  for (const size_t host : over) searches_.erase(host);
}

void MachineSteward::Begin(size_t host, Search& search) {
  const int64_t now = MonotonicMillis();
  const Machine& machine = machines_[host];
  MachineOrder order = options_.order;
  MachineGroup group = *GroupOf(machine.role);
  group.count = 1;
  group.first_index = machine.index;
  order.groups = {group};
  order.place = machine.place;
  order.lifetime_s = std::max<int64_t>(1, order.lifetime_s - (now - began_ms_) / 1000);
  order.attempt = next_attempt_;
  next_attempt_ += kAttempts;
  const bool give_up = now - search.begun_ms > options_.silence_ms;
  std::vector<int> keep = options_.keep;
  keep.push_back(options_.journal.fd());
  search.answered = false;
  search.next_ms = now + kLookAgainMs;  // where there can be no process now
  auto task = SideTask::Start(
      [&](const SideTask::Tell& tell) {
        Look(options_.provider, options_.journal, options_.patience, machine, order, search.ends,
             give_up, tell);
      },
      keep);
  if (task.ok()) search.task = *std::move(task);
}

void MachineSteward::TakeLine(size_t host, Search& search, const std::string& line) {
  const std::vector<std::string> cells = absl::StrSplit(line, '\t');
  if (cells[0] == kSays && cells.size() == 2) {
    messages_.push_back(fmt::format("{}: {}", NameOf(host), Printable(cells[1])));
    return;
  }
  search.answered = true;
  if (cells[0] == kRuns) {
    // Until it is reached, this search goes on.
    search.next_ms = MonotonicMillis() + kLookAgainMs;
    if (!std::exchange(search.told, true)) {
      messages_.push_back(fmt::format("{}: its machine runs ({}); it is tried again", NameOf(host),
                                      machines_[host].id));
    }
    const auto way = options_.reach(machines_[host]);
    if (way.ok()) found_.emplace_back(host, *way);
    return;
  }
  if (cells[0] == kUnknown) {
    search.next_ms = MonotonicMillis() + kLookAgainMs;
    if (std::exchange(search.told, true)) return;
    messages_.push_back(fmt::format("{}: what became of its machine is not known: {}", NameOf(host),
                                    Printable(cells.back())));
    return;
  }
  if (cells[0] == kFound && cells.size() == 6) {
    Machine machine = machines_[host];
    machine.id = cells[1];
    machine.place = {cells[2], cells[3]};
    machine.address = cells[4];
    (void)absl::SimpleAtoi(cells[5], &machine.attempt);
    return Found(host, search, machine);
  }
  search.ends = false;  // what can be had is not known: look again
  search.next_ms = MonotonicMillis() + options_.again_ms;
  messages_.push_back(fmt::format("{}: no other machine: {}; asked again in {}", NameOf(host),
                                  Printable(cells.back()), FormatDuration(options_.again_ms)));
}

void MachineSteward::Found(size_t host, Search& search, const Machine& machine) {
  const int64_t now = MonotonicMillis();
  options_.rent->bill.End(bills_[host], now);
  prices_.Remove(bills_[host]);
  if (options_.on_replaced) options_.on_replaced(machines_[host], machine);
  machines_[host] = machine;
  Count(host, now);
  search.next_ms = 0;  // over
  messages_.push_back(fmt::format("{}: another machine runs in {} ({})", NameOf(host),
                                  machine.place.zone, machine.id));
  const auto way = options_.reach(machine);
  if (way.ok()) {
    found_.emplace_back(host, *way);
  } else {
    messages_.push_back(fmt::format("{}: {}", NameOf(host), std::string(way.status().message())));
  }
}

void MachineSteward::Stop() {
  if (!searches_.empty()) options_.journal.NoteAsked(options_.patience.now_ms());
  searches_.clear();
}

}  // namespace muster::cluster
