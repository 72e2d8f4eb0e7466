#include "tests/cluster/fake_cloud.h"

#include <algorithm>

namespace muster::cluster {

ToolResult FakeCloud::Run(const std::vector<std::string>& words, int64_t now_ms) {
  Advance(now_ms);
  const std::string action = ActionOf(words);
  asked.push_back(action);
  if (Chance(options_.throttled)) return Throttled(action);
  ToolResult result = Do(action, words, now_ms);
  return Chance(options_.lost) ? Lost() : result;
}

void FakeCloud::Advance(int64_t now_ms) {
  for (Machine& machine : machines_) {
    if (machine.state != State::kPending || now_ms < machine.runs_ms) continue;
    machine.state = machine.taken ? State::kGone : State::kRunning;
  }
}

int64_t FakeCloud::Alive(int64_t now_ms) {
  Advance(now_ms);
  return std::ranges::count_if(machines_, [](const Machine& m) { return m.state != State::kGone; });
}

int64_t FakeCloud::Stopped() const {
  return std::ranges::count(machines_, State::kStopped, &Machine::state);
}

int64_t FakeCloud::AliveSpot() const {
  return std::ranges::count_if(machines_,
                               [](const Machine& m) { return m.spot && m.state != State::kGone; });
}

void FakeCloud::TakeAway(const std::string& id) {
  for (Machine& machine : machines_) {
    if (machine.id != id) continue;
    machine.state = State::kGone;
    machine.taken = true;
  }
}

FakeCloud::Refusal FakeCloud::Refuses(const std::string& region, const std::string& zone,
                                      int64_t count, bool spot) const {
  int64_t in_zone = 0, in_region = 0, spots = 0;
  for (const Machine& machine : machines_) {
    if (machine.state == State::kGone) continue;
    in_zone += machine.zone == zone ? 1 : 0;
    in_region += machine.region == region ? 1 : 0;
    spots += machine.zone == zone && machine.spot ? 1 : 0;
  }
  const auto quota = options_.quota.find(region);
  if (quota != options_.quota.end() && in_region + count > quota->second) return Refusal::kNoQuota;
  const auto room = options_.room.find(zone);
  if (room == options_.room.end()) return Refusal::kNoSuchZone;
  const auto of_spot = options_.spot_room.find(zone);
  if (spot && of_spot != options_.spot_room.end() && spots + count > of_spot->second) {
    return Refusal::kNoRoom;
  }
  return in_zone + count > room->second ? Refusal::kNoRoom : Refusal::kNone;
}

void FakeCloud::Make(Machine machine, int64_t now_ms) {
  machine.listed_ms = now_ms + UpTo(options_.appear_ms);
  machine.runs_ms = now_ms + UpTo(options_.boot_ms);
  machine.taken = Chance(options_.taken);
  machines_.push_back(std::move(machine));
  most_ = std::max(most_, Alive(now_ms));
}

std::string After(const std::vector<std::string>& words, const std::string& flag) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with(flag + "=")) return words[i].substr(flag.size() + 1);
    if (words[i] == flag && i + 1 < words.size()) return words[i + 1];
  }
  return "";
}

}  // namespace muster::cluster
