#include "master/role_links.h"

#include <algorithm>
#include <utility>

#include "master/agent.h"

namespace muster::master {

void RoleLinks::Add(const RoleId& role, std::shared_ptr<rpc::Stream> stream, int64_t link) {
  std::erase_if(links_, [&](const Link& old) { return old.role == role; });
  links_.push_back({role, std::move(stream), link});
}

void RoleLinks::MarkLeft(const RoleId& role) {
  for (Link& link : links_) link.left |= link.role == role;
}

void RoleLinks::Close(const RoleId& role, const absl::Status& why) {
  for (const Link& link : links_) {
    if (link.role == role) link.stream->Close(why);
  }
  MarkLeft(role);
}

bool RoleLinks::all_left() const {
  return std::all_of(links_.begin(), links_.end(), [](const Link& link) { return link.left; });
}

bool RoleLinks::Has(const RoleId& role, int64_t link) const {
  return std::ranges::any_of(
      links_, [&](const Link& known) { return known.role == role && known.link == link; });
}

void RoleLinks::Send(const RoleId& role, const MasterMessage& message) const {
  for (const Link& link : links_) {
    if (link.role == role) (void)link.stream->Send(PackControl(message));
  }
}

void RoleLinks::SendToServers(const MasterMessage& message) const {
  for (const Link& link : links_) {
    if (!IsTrainer(link.role)) (void)link.stream->Send(PackControl(message));
  }
}

void RoleLinks::SendToAll(const MasterMessage& message) const {
  for (const Link& link : links_) (void)link.stream->Send(PackControl(message));
}

}  // namespace muster::master
