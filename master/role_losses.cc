#include "master/role_losses.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace muster::master {

absl::Status Named(const RoleId& role, const absl::Status& status) {
  return absl::Status(status.code(),
                      fmt::format("{}: {}", RoleName(role), std::string(status.message())));
}

std::string RoleLosses::WhyNeeded(const RoleId& role) const {
  if (role.kind != RoleId::Kind::kWorker) return "only workers can be spared";
  if (!training_) return "training has not begun";
  if (run_.has_residuals) {
    return "the codec of training.codec keeps back what only its worker has";
  }
  if (!run_.moves->CanSpare(run_.numbers.Of(role))) return "nobody else trains";
  return "";
}

absl::Status RoleLosses::OnGone(Member& member, const absl::Status& why) {
  const std::string text(why.message());
  return Lose(member, fmt::format("is gone: {}", why.ok() ? "it closed its link" : text), text);
}

absl::Status RoleLosses::OnSilent(Member& member, int64_t now_ms) {
  const std::string silent = fmt::format("silent for {} s", (now_ms - member.last_seen_ms) / 1000);
  RETURN_IF_ERROR(Lose(member, "has been " + silent, silent));
  run_.links->Close(member.role, absl::UnavailableError("this role was not heard of any more (" +
                                                        silent + "): others do its work"));
  return absl::OkStatus();
}

absl::Status RoleLosses::OnUnfit(Member& member, const absl::Status& why) {
  if (!WhyNeeded(member.role).empty()) return Named(member.role, why);
  const std::string text(why.message());
  RETURN_IF_ERROR(Lose(member, "has failed: " + text, text));
  run_.links->Close(member.role, absl::UnavailableError("the others do this role's work: " + text));
  return absl::OkStatus();
}

bool RoleLosses::OnLeave(const Member& member, bool ending) {
  const std::string needed = ending ? "the job is ending" : WhyNeeded(member.role);
  if (!needed.empty()) {
    run_.record->Message(
        MessageLine::Level::kWarning,
        fmt::format("{} was asked to leave, and stays: {}", RoleName(member.role), needed));
    return false;
  }
  run_.moves->Leave(run_.numbers.Of(member.role));
  TellOfTrainer(member.role, "leaves");
  return true;
}

void RoleLosses::OnFailed(const Member& member, const absl::Status& why, bool stays,
                          int64_t now_ms) {
  failures_.Add({member.role, why, stays}, member.clock, now_ms);
}

absl::StatusOr<bool> RoleLosses::SettleFailure(int64_t now_ms) {
  const auto failure = failures_.Take(run_.membership->members(), now_ms);
  if (!failure.has_value()) return false;
  if (failure->stays && !run_.has_residuals) {
    run_.moves->BeginAnew(run_.numbers.Of(failure->role));
    TellOfTrainer(failure->role, "begins its step anew: " + std::string(failure->status.message()));
  } else {
    RETURN_IF_ERROR(OnUnfit(*run_.membership->Find(failure->role), failure->status));
  }
  return true;
}

absl::Status RoleLosses::Lose(Member& member, const std::string& what, const std::string& detail) {
  member.state = Member::State::kLost;
  run_.record->AddReplica(member, detail);
  const std::string text = fmt::format("(pid {} on {}) {}", member.pid, member.host, what);
  if (!WhyNeeded(member.role).empty()) {
    return absl::UnavailableError(fmt::format("{} {}", RoleName(member.role), text));
  }
  member.leases.clear();
  failures_.Forget(member.role);
  run_.moves->Lose(run_.numbers.Of(member.role));
  TellOfTrainer(member.role, text);
  return absl::OkStatus();
}

void RoleLosses::TellOfTrainer(const RoleId& role, const std::string& what) {
  const LeaseMoves& moves = *run_.moves;
  std::vector<std::string> moved;
  for (int t = 0; t < run_.numbers.count(); ++t) {
    for (const int32_t replica : moves.planned(t)) {
      const Leases& now = moves.leases(t);
      if (std::ranges::find(now, replica) != now.end()) continue;
      moved.push_back(
          fmt::format("replica {} goes on in {}", replica, RoleName(run_.numbers.RoleOf(t))));
    }
  }
  const std::string text = fmt::format("{} {}{}{}", RoleName(role), what, moved.empty() ? "" : "; ",
                                       fmt::join(moved, ", "));
  run_.record->Message(MessageLine::Level::kInfo, text);
  run_.record->AddEvent(run_.record->state().step, text);
}

}  // namespace muster::master
