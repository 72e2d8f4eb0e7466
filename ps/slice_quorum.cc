// Slice's part in backup workers (ps/quorum.h).
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ps/slice.h"

namespace muster::ps {

void Slice::OnDecision(const Decision& decision) {
  if (!poisoned_.ok()) return;
  std::vector<std::shared_ptr<HeldGradient>> counted(decision.counted.size());
  for (const auto& gradient : held_) {
    if (gradient->header.step == decision.step) counted[gradient->header.replica] = gradient;
  }
  for (size_t v = 0; v < counted.size(); ++v) {
    if (!decision.counted[v]) {
      counted[v] = nullptr;
    } else if (counted[v] == nullptr) {
      const absl::Status status = absl::FailedPreconditionError(
          fmt::format("replica {} is said to have pushed step {} of {}, and has not", v,
                      decision.step, Name()));
      Poison(status);
      if (context_.events->on_bad_push) context_.events->on_bad_push(status);
      return;
    }
  }
  std::erase(counted, nullptr);
  // The others' are let go first: they are not needed, and memory may be short.
  for (const auto& gradient : std::exchange(held_, counted)) {
    if (decision.counted[gradient->header.replica]) continue;
    Release(*gradient, /*answer=*/true);
    Count(context_.counters->dropped);
  }
  for (const auto& gradient : counted) {
    const Verdict verdict = gradient == counted.back() ? Verdict::kApply : Verdict::kFold;
    std::erase(held_, gradient);
    if (!FoldOne(*gradient, verdict, /*staleness=*/0, decision.step)) return;
  }
  for (int64_t& clock : state_.clocks) clock = state_.version;
  AnswerReaders();
  ReachCuts();
}

}  // namespace muster::ps
