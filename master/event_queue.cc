#include "master/event_queue.h"

#include <fmt/format.h>

#include <atomic>
#include <optional>
#include <utility>

#include "master/agent.h"

namespace muster::master {
namespace {

// Puts what one role says into the queue.
class RoleHandler : public rpc::StreamHandler {
 public:
  RoleHandler(RoleId role, int64_t link, std::shared_ptr<EventQueue> queue)
      : role_(role), link_(link), queue_(std::move(queue)) {}
  void OnMessage(rpc::Message message) override {
    RoleMessage said;
    if (absl::Status status = UnpackControl(message, &said); !status.ok()) {
      queue_->Put(RoleLeft{role_, status, link_});
      return;
    }
    queue_->Put(RoleSaid{role_, std::move(said), link_});
  }
  void OnClosed(absl::Status status) override {
    queue_->Put(RoleLeft{role_, std::move(status), link_});
  }

 private:
  const RoleId role_;
  const int64_t link_;
  const std::shared_ptr<EventQueue> queue_;
};

}  // namespace

void EventQueue::Put(Event event) {
  MutexLock lock(mu_);
  events_.push_back(std::move(event));
  arrived_.NotifyOne();
}

Event EventQueue::Take(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  MutexLock lock(mu_);
  while (events_.empty()) {
    if (!arrived_.WaitUntil(mu_, deadline) && events_.empty()) return Tick{};
  }
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

absl::StatusOr<std::unique_ptr<rpc::Listener>> ListenForRoles(rpc::Transport& transport,
                                                              const std::string& address,
                                                              const rpc::Hello& self,
                                                              std::shared_ptr<EventQueue> queue,
                                                              FileService& files) {
  return transport.Listen(
      address, self,
      [queue = std::move(queue), &files, links = std::make_shared<std::atomic<int64_t>>(0)](
          const rpc::Hello& peer, std::shared_ptr<rpc::Stream> stream)
          -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
        const std::optional<RoleId> role = ParseRole(peer.role, peer.index);
        if (role.has_value() && peer.service == "files") return files.Accept(std::move(stream));
        if (!role.has_value() || peer.service != "control") {
          return absl::InvalidArgumentError(
              fmt::format("{}-{} ({}) is no role of a job", peer.role, peer.index, peer.service));
        }
        const int64_t link = ++*links;
        queue->Put(RoleJoined{*role, std::move(stream), link});
        return std::make_unique<RoleHandler>(*role, link, queue);
      });
}

}  // namespace muster::master
