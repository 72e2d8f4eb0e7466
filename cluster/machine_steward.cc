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
constexpr int kPauseMs = 200;
// A search may try so many zones.
constexpr int kAttempts = 100;
constexpr char kSays[] = "says", kRuns[] = "runs", kGone[] = "gone", kSilent[] = "silent",
               kFound[] = "found", kReady[] = "ready", kEnded[] = "ended", kUnfit[] = "unfit",
               kNone[] = "none", kLate[] = "late", kUnknown[] = "unknown";

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

struct Question {
  Machine machine;
  MachineOrder order;    // of another one
  bool ends = false;     // it is known that the machine goes
  bool give_up = false;  // also when it runs
  bool may_ask = true;   // for another one
  bool checked = true;   // as MachineSteward::Options has it
};

// What became of a machine, and another one in its place where it is gone; in a process of its own.
void Look(const MachineSteward::Options& options, const Question& question,
          const SideTask::Tell& tell) {
  Provider& provider = options.provider;
  const MachineOrder& order = question.order;
  const auto fail = [&](const absl::Status& status) {
    tell(fmt::format("{}\t{}", kNone, OneLine(std::string(status.message()))));
  };
  if (!question.ends) {
    const auto machines = provider.List(order.job_id);
    // Silence of both is no end.
    if (!machines.ok()) {
      return tell(
          fmt::format("{}\t{}", kUnknown, OneLine(std::string(machines.status().message()))));
    }
    const auto found = std::ranges::find(*machines, question.machine.id, &Machine::id);
    const bool listed = found != machines->end();
    const bool runs = listed && (found->state == MachineState::kRunning ||
                                 found->state == MachineState::kPending);
    if (runs && (!question.give_up || !question.may_ask)) return tell(kRuns);
    // One that has stopped still has a disk that costs.
    if (listed && found->state != MachineState::kGone) {
      if (const absl::Status ended = provider.End(*found); !ended.ok()) return fail(ended);
    }
    tell(fmt::format("{}\t{}", runs ? kSilent : kGone, listed ? OneLine(found->reason) : ""));
  }
  if (!question.may_ask) return tell(kLate);
  if (!question.checked) {
    if (const auto places = provider.Check(order); !places.ok()) return fail(places.status());
  }
  const Say say = [&](const std::string& line) {
    tell(fmt::format("{}\t{}", kSays, OneLine(line)));
  };
  NodeSet set(provider, options.journal, options.patience, say);
  const auto made = set.CreateOne(order, kMaxWaitMs);
  if (!made.ok()) return fail(made.status());
  tell(fmt::format("{}\t{}\t{}\t{}\t{}\t{}", kFound, made->id, made->place.region, made->place.zone,
                   made->address, made->attempt));
  const absl::Status prepared = options.prepare ? options.prepare(*made, say) : absl::OkStatus();
  if (prepared.ok()) return tell(kReady);
  if (provider.End(*made).ok()) tell(kEnded);
  if (!absl::IsFailedPrecondition(prepared)) return fail(prepared);
  tell(fmt::format("{}\t{}", kUnfit, OneLine(std::string(prepared.message()))));
}

}  // namespace

MachineSteward::MachineSteward(Options options, std::vector<Machine> machines,
                               std::vector<size_t> bills)
    : options_(std::move(options)),
      began_ms_(MonotonicMillis()),
      machines_(std::move(machines)),
      bills_(std::move(bills)),
      prices_([this] { return options_.provider.SpotPrices(SpotTypes(options_.order)); },
              options_.keep, options_.rent) {
  for (size_t i = 0; i < machines_.size(); ++i) FollowPrice(i);
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

int64_t MachineSteward::EndsBy(int64_t now_ms) const {
  const int64_t stop = options_.rent->StopBy(now_ms);
  if (options_.max_running_ms <= 0) return stop;
  return std::min(stop, began_ms_ + options_.max_running_ms);
}

void MachineSteward::FollowPrice(size_t host) {
  const Machine& machine = machines_[host];
  const MachineGroup* group = GroupOf(machine.role);
  if (group != nullptr && group->spot) {
    prices_.Add(bills_[host], group->type, machine.place.zone);
  }
}

// What is lost with a worker can be redone; parameters and checkpoints cannot.
bool MachineSteward::Replaces(size_t host) const {
  const Role role = machines_[host].role;
  return role == Role::kWorker && options_.provider.CanReplace() && GroupOf(role) != nullptr;
}

void MachineSteward::Replace(size_t host, bool ends) {
  const int64_t now = MonotonicMillis();
  const auto [it, is_new] = searches_.try_emplace(host);
  it->second.ends |= ends;
  if (is_new) it->second.begun_ms = now;
}

bool MachineSteward::IsAsking() const {
  return std::ranges::any_of(searches_,
                             [](const auto& search) { return search.second.task != nullptr; });
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
  const int64_t ends_by = EndsBy(now);
  const Question question = {
      .machine = machine,
      .order = std::move(order),
      .ends = search.ends,
      .give_up = now - search.begun_ms > options_.silence_ms,
      .may_ask = ends_by == Bill::kNever || ends_by - now >= options_.help_ms,
      .checked = options_.checked};
  std::vector<int> keep = options_.keep;
  keep.push_back(options_.journal.fd());
  search.answered = false;
  search.next_ms = now + kLookAgainMs;  // where there can be no process now
  auto task =
      SideTask::Start([&](const SideTask::Tell& tell) { Look(options_, question, tell); }, keep);
  if (task.ok()) search.task = *std::move(task);
}

void MachineSteward::TakeLine(size_t host, Search& search, const std::string& line) {
  const std::vector<std::string> cells = absl::StrSplit(line, '\t');
  if (cells[0] == kSays && cells.size() == 2) {
    messages_.push_back(fmt::format("{}: {}", NameOf(host), Printable(cells[1])));
    return;
  }
  if ((cells[0] == kGone || cells[0] == kSilent) && cells.size() == 2) {
    return Lost(host, search, Printable(cells[1]), /*given_up=*/cells[0] == kSilent);
  }
  if (cells[0] == kFound && cells.size() == 6) {
    Machine machine = machines_[host];
    machine.id = cells[1];
    machine.place = {cells[2], cells[3]};
    machine.address = cells[4];
    machine.state = MachineState::kRunning;
    (void)absl::SimpleAtoi(cells[5], &machine.attempt);
    return Found(host, machine);
  }
  if (cells[0] == kEnded) return Ended(host);
  search.answered = true;
  if (cells[0] == kReady) return Ready(host, search);
  if (cells[0] == kUnfit) {
    search.next_ms = 0;  // over
    messages_.push_back(fmt::format(
        "{}: {}; its machine is ended{}", NameOf(host), Printable(cells.back()),
        machines_[host].role == Role::kWorker ? ", and the job goes on without it" : ""));
    return;
  }
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
  if (cells[0] == kLate) {
    const int64_t now = MonotonicMillis();
    search.next_ms = 0;  // over
    messages_.push_back(
        fmt::format("{}: no other machine is asked for: the job ends by {} at the latest",
                    NameOf(host), FormatTime(UnixMillis() + EndsBy(now) - now)));
    return;
  }
  search.ends = false;  // what can be had is not known: look again
  search.next_ms = MonotonicMillis() + options_.again_ms;
  messages_.push_back(fmt::format("{}: no other machine: {}; asked again in {}", NameOf(host),
                                  Printable(cells.back()), FormatDuration(options_.again_ms)));
}

void MachineSteward::Lost(size_t host, Search& search, const std::string& reason, bool given_up) {
  if (std::exchange(search.lost, true)) return;
  const Machine& machine = machines_[host];
  options_.rent->bill.End(bills_[host], MonotonicMillis());
  prices_.Remove(bills_[host]);
  if (options_.on_lost) options_.on_lost(machine);
  std::string about = machine.id;
  if (!reason.empty()) about += (about.empty() ? "" : ": ") + reason;
  if (!about.empty()) about = " (" + about + ")";
  messages_.push_back(
      given_up ? fmt::format("{}: its machine runs{} and was not reached for {}: it is ended",
                             NameOf(host), about, FormatDuration(options_.silence_ms))
               : fmt::format("{}: its machine is gone{}", NameOf(host), about));
}

void MachineSteward::Found(size_t host, const Machine& machine) {
  const int64_t now = MonotonicMillis();
  options_.rent->bill.End(bills_[host], now);
  prices_.Remove(bills_[host]);
  if (options_.on_replaced) options_.on_replaced(machines_[host], machine);
  machines_[host] = machine;
  machines_[host].spot = GroupOf(machine.role)->spot;
  bills_[host] = options_.rent->bill.Begin(options_.price(machine.role), now);
  FollowPrice(host);
  messages_.push_back(fmt::format("{}: another machine runs in {} ({})", NameOf(host),
                                  machine.place.zone, machine.id));
}

void MachineSteward::Ended(size_t host) {
  options_.rent->bill.End(bills_[host], MonotonicMillis());
  prices_.Remove(bills_[host]);
  machines_[host].state = MachineState::kGone;
  if (options_.on_lost) options_.on_lost(machines_[host]);
}

void MachineSteward::Ready(size_t host, Search& search) {
  search.next_ms = 0;  // over
  const auto way = options_.reach(machines_[host]);
  if (way.ok()) {
    found_.emplace_back(host, *way);
  } else {
    messages_.push_back(fmt::format("{}: {}", NameOf(host), std::string(way.status().message())));
  }
}

bool MachineSteward::Recover(const std::function<void(const std::string& line)>& say) {
  std::set<size_t> lost = std::exchange(missed_, {});
  if (!options_.provider.CanReplace()) return false;
  if (const auto listed = options_.provider.List(options_.order.job_id); listed.ok()) {
    for (size_t host = 0; host < machines_.size(); ++host) {
      const bool runs = std::ranges::any_of(*listed, [&](const Machine& machine) {
        return machine.id == machines_[host].id && machine.state == MachineState::kRunning;
      });
      if (!runs) lost.insert(host);
    }
  }
  if (lost.empty()) return false;
  for (const size_t host : lost) Replace(host, /*ends=*/false);
  const int64_t until = MonotonicMillis() + kMaxWaitMs;
  while (!lost.empty()) {
    std::vector<pollfd> fds;
    Watch(&fds);
    poll(fds.data(), fds.size(), kPauseMs);
    Tick();
    for (const std::string& line : TakeMessages()) say(line);
    for (const auto& [host, way] : TakeFound()) {
      Reached(host);
      lost.erase(host);
    }
    // Not where it is given up, the job's time or budget is over, or the user has interrupted.
    const bool sought =
        std::ranges::all_of(lost, [this](size_t host) { return searches_.contains(host); });
    const int64_t now = MonotonicMillis();
    if (!sought || std::min(EndsBy(now), until) <= now || !options_.patience.pause(0)) return false;
  }
  Stop();  // whatever was sought before
  return true;
}

void MachineSteward::Stop() {
  if (!searches_.empty()) options_.journal.NoteAsked(options_.patience.now_ms());
  searches_.clear();
}

}  // namespace muster::cluster
