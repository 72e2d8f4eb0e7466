#include "cluster/notice_watch.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include "cluster/notice.h"
#include "telemetry/time.h"

namespace muster::cluster {

absl::Status NoticeWatch::Begin(Cluster::Provider provider, const std::string& address,
                                int64_t pause_ms) {
  ASSIGN_OR_RETURN(asks_, SideTask::Start([=](const SideTask::Tell& tell) {
                     for (;;) {
                       const auto notice = AskForNotice(provider, address, UnixMillis());
                       if (notice) return tell(fmt::format("{}", notice->ends_ms));
                       poll(nullptr, 0, static_cast<int>(pause_ms));
                     }
                   }));
  return absl::OkStatus();
}

void NoticeWatch::Watch(std::vector<pollfd>* fds) const {
  if (asks_ != nullptr) fds->push_back({asks_->fd(), POLLIN, 0});
}

std::optional<int64_t> NoticeWatch::Take() {
  if (asks_ == nullptr) return std::nullopt;
  std::string said;
  if (!asks_->Read([&](const std::string& line) { said = line; })) asks_.reset();
  int64_t ends_ms = 0;
  if (!absl::SimpleAtoi(said, &ends_ms)) return std::nullopt;
  return ends_ms;
}

}  // namespace muster::cluster
