#include "ps/standings.h"

#include <algorithm>

namespace muster::ps {

bool Standings::OnAck(int32_t replica, int64_t step) {
  const auto [at, first] = replicas_.try_emplace(replica);
  Standing& own = at->second;
  if (first) own.unheard = step;
  if (own.step != step) own.step = step, own.acked = 0;
  if (++own.acked < slices_) return false;
  arrived_ = std::max(arrived_, step);
  return true;
}

bool Standings::OnGone(int64_t clock) {
  if (clock <= gone_) return false;
  gone_ = clock;
  return true;
}

bool Standings::OnDecision(int64_t step, std::string_view bits) {
  if (step <= decided_) return false;
  for (auto& [replica, own] : replicas_) {
    if (step < own.unheard) continue;
    const size_t byte = static_cast<size_t>(replica) / 8;
    const bool counted = byte < bits.size() && (bits[byte] >> replica % 8 & 1) != 0;
    own.missed += step - own.unheard + (counted ? 0 : 1);
    own.unheard = step + 1;
  }
  decided_ = step;
  return true;
}

int64_t Standings::missed(int32_t replica) const {
  const auto own = replicas_.find(replica);
  return own == replicas_.end() ? 0 : own->second.missed;
}

}  // namespace muster::ps
