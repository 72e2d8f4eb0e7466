#include "cluster/node_logs.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "cluster/node_wire.h"
#include "master/job_files.h"

namespace muster::cluster {
namespace {

int64_t SizeOf(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(size);
}

}  // namespace

void NodeLogs::Add(int64_t role, const std::string& path, bool wanted) {
  const int64_t size = SizeOf(path);
  tails_[role] = {path, size, size, wanted};
}

void NodeLogs::Pause() {
  for (auto& [role, tail] : tails_) tail.followed = false;
}

void NodeLogs::Follow(int64_t role, int64_t received) {
  const auto it = tails_.find(role);
  if (it == tails_.end()) return;
  Tail& tail = it->second;
  tail.offset = std::clamp<int64_t>(tail.begin + std::max<int64_t>(0, received), tail.begin,
                                    std::max(tail.begin, SizeOf(tail.path)));
  tail.followed = true;
}

bool NodeLogs::following() const {
  return std::any_of(tails_.begin(), tails_.end(),
                     [](const auto& entry) { return entry.second.followed; });
}

bool NodeLogs::SendPart(int64_t role, Tail& tail, const Send& send) {
  if (!tail.followed) return false;
  const int64_t size = SizeOf(tail.path);
  // A log that has been moved aside begins again.
  if (size < tail.offset) tail.begin = tail.offset = 0;
  if (size == tail.offset) return false;
  auto text = master::ReadPart(tail.path, tail.offset, kMaxPartBytes);
  if (!text.ok() || text->empty()) return false;
  tail.offset += static_cast<int64_t>(text->size());
  NodeEvent event;
  event.mutable_log()->set_role(role);
  event.mutable_log()->set_text(*std::move(text));
  send(event);
  return true;
}

void NodeLogs::SendNew(const Send& send) {
  for (auto& [role, tail] : tails_) SendPart(role, tail, send);
}

void NodeLogs::SendRest(int64_t role, const Send& send) {
  const auto it = tails_.find(role);
  if (it == tails_.end()) return;
  while (SendPart(role, it->second, send)) {
  }
}

}  // namespace muster::cluster
