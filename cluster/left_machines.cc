#include "cluster/left_machines.h"

#include <algorithm>
#include <map>
#include <utility>

namespace muster::cluster {
namespace {

using Seat = std::pair<Role, int>;  // role and index

// In the order of PlaceRoles: the master's, the workers', the servers'.
std::vector<Seat> SeatsOf(const std::vector<LocalRole>& roles) {
  std::vector<Seat> seats = {{Role::kMaster, 0}};
  for (const Role role : {Role::kWorker, Role::kParameterServer}) {
    for (const LocalRole& planned : roles) {
      if (planned.role == RoleName(role)) seats.emplace_back(role, planned.index);
    }
  }
  return seats;
}

// The last machine of this seat that is not known to run.
Machine GoneOf(const Seat& seat, const std::vector<RentedSpan>& spans) {
  Machine gone;
  gone.role = seat.first;
  gone.index = seat.second;
  gone.state = MachineState::kGone;
  for (const RentedSpan& span : spans) {
    if (span.role != RoleName(seat.first) || span.index != seat.second) continue;
    gone.id = span.machine;
    gone.spot = span.spot;
  }
  return gone;
}

}  // namespace

std::vector<RentedSpan> SpansOfLastRun(const std::vector<RentedSpan>& spans) {
  int64_t began_ms = 0;
  for (const RentedSpan& span : spans) {
    if (span.role == RoleName(Role::kMaster)) began_ms = std::max(began_ms, span.began_ms);
  }
  std::vector<RentedSpan> last;
  for (const RentedSpan& span : spans) {
    const bool its = began_ms > 0 ? span.began_ms >= began_ms : span.ended_ms == 0;
    if (its) last.push_back(span);
  }
  return last;
}

LeftMachines FindLeftMachines(const std::vector<Machine>& listed,
                              const std::vector<RentedSpan>& spans,
                              const std::vector<LocalRole>& roles) {
  LeftMachines left;
  const std::vector<RentedSpan> its = SpansOfLastRun(spans);
  for (const RentedSpan& span : its) {
    if (span.role == RoleName(Role::kMaster)) left.began_ms = span.began_ms;
  }
  std::map<Seat, Machine> newest;
  for (const Machine& machine : listed) {
    left.last_attempt = std::max(left.last_attempt, machine.attempt);
    if (machine.state != MachineState::kRunning) continue;
    const auto [it, first] = newest.try_emplace({machine.role, machine.index}, machine);
    if (first) continue;
    const bool newer = machine.attempt > it->second.attempt;
    left.superseded.push_back(newer ? std::exchange(it->second, machine) : machine);
  }
  for (const Seat& seat : SeatsOf(roles)) {
    const auto found = newest.find(seat);
    const bool runs = found != newest.end();
    left.by_host.push_back(runs ? found->second : GoneOf(seat, its));
    left.running += runs ? 1 : 0;
    if (seat.first == Role::kMaster) left.has_master = runs;
    left.others_are_workers &= runs || seat.first == Role::kWorker;
    if (!runs) left.by_host.back().place = left.by_host.front().place;
  }
  return left;
}

}  // namespace muster::cluster
