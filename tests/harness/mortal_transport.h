// A Transport over another one that can be cut like the process that owns it: all its streams break
// in the midst of whatever they carry, and no other is opened; or like a network that loses the
// connections to the parameter servers, and carries new ones.
//
// Thread-safe. `inner` is borrowed and outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::harness {

class MortalTransport final : public rpc::Transport {
 public:
  explicit MortalTransport(rpc::Transport& inner) : inner_(inner) {}

  // Cuts all streams once `messages` more messages were sent: 0: now.
  void Cut(int64_t messages);
  bool is_cut() const;
  // The same of the streams of the service "params", and others may be opened.
  void Break(int64_t messages);

  absl::StatusOr<std::unique_ptr<rpc::Listener>> Listen(const std::string& address, rpc::Hello self,
                                                        rpc::Acceptor acceptor) override {
    return inner_.Listen(address, std::move(self), std::move(acceptor));
  }
  absl::StatusOr<std::shared_ptr<rpc::Stream>> Connect(const std::string& address, rpc::Hello self,
                                                       std::unique_ptr<rpc::StreamHandler> handler,
                                                       rpc::ConnectLimit limit) override;
  bool Help(absl::FunctionRef<bool()> done,
            std::chrono::steady_clock::time_point deadline) override {
    return inner_.Help(done, deadline);
  }
  void WakeHelper() override { inner_.WakeHelper(); }
  std::shared_ptr<std::byte[]> Allocate(size_t size) override { return inner_.Allocate(size); }

 private:
  class CuttableStream;
  enum class Planned { kNothing, kCut, kBreak };
  void Plan(Planned planned, int64_t messages);
  // Counts a message that is about to be sent; false when everything is cut.
  bool OnSend();
  void CutAll();
  void BreakParams();

  rpc::Transport& inner_;
  mutable Mutex mu_;
  bool cut_ ABSL_GUARDED_BY(mu_) = false;
  Planned planned_ ABSL_GUARDED_BY(mu_) = Planned::kNothing;
  int64_t left_ ABSL_GUARDED_BY(mu_) = 0;                                 // messages until then
  std::vector<std::weak_ptr<rpc::Stream>> streams_ ABSL_GUARDED_BY(mu_);  // all of them
  std::vector<std::weak_ptr<rpc::Stream>> params_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::harness
