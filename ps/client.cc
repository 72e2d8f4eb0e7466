#include "ps/client.h"

#include <utility>

#include "ps/client_state.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

class Handler final : public rpc::StreamHandler {
 public:
  Handler(std::shared_ptr<ClientState> state, int server)
      : state_(std::move(state)), server_(server) {}
  void OnMessage(rpc::Message message) override { state_->OnMessage(server_, message); }
  void OnClosed(absl::Status status) override { state_->OnClosed(server_, status); }

 private:
  const std::shared_ptr<ClientState> state_;
  const int server_;
};

class ClientImpl final : public Client {
 public:
  explicit ClientImpl(std::shared_ptr<ClientState> state) : state_(std::move(state)) {}
  ~ClientImpl() override { state_->Shutdown(); }

  void Push(int32_t replica, int64_t step, ParamId param, std::span<const float> grad, int priority,
            bool want_params) override {
    state_->Push(replica, step, param, grad, priority, want_params);
  }
  void Pull(int32_t replica, int64_t clock, int64_t version) override {
    state_->Pull(replica, clock, version, /*all_at_clock=*/false);
  }
  void PullAtClock(int32_t replica, int64_t clock) override {
    state_->Pull(replica, clock, /*version=*/-1, /*all_at_clock=*/true);
  }
  absl::StatusOr<int64_t> Clock(int32_t replica) override { return state_->ClockOf(replica); }
  void Flush() override { state_->Flush(); }
  absl::Status Wait(int64_t clock) override { return state_->Wait(clock); }
  int64_t reached() const override { return state_->reached(); }
  int64_t missed(int32_t replica) const override { return state_->missed(replica); }
  double last_pull_ms() const override { return state_->last_pull_ms(); }
  std::shared_ptr<float[]> AllocateGradients() override { return state_->AllocateGradients(); }
  absl::StatusOr<std::vector<SavedSlice>> Residuals(int32_t replica) override {
    return state_->encoder().Residuals(replica);
  }
  ReplicaEncodings LeaveEncodingTo(ReplicaEncoder& to, int32_t replica) override {
    return state_->encoder().LeaveTo(to, replica);
  }
  absl::Status RestoreResiduals(int32_t replica, const Checkpoint& saved) override {
    return state_->encoder().RestoreResiduals(replica, saved);
  }
  void SetArena(std::span<float> arena) override { state_->SetArena(arena); }
  absl::StatusOr<std::shared_ptr<const WeightArenas>> AllocateWeights() override {
    return state_->AllocateWeights();
  }
  void Cancel(absl::Status status) override { state_->Fail(std::move(status)); }

 private:
  const std::shared_ptr<ClientState> state_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    rpc::Transport& transport, const std::vector<std::string>& servers, const rpc::Hello& self,
    const ParamTable& table, const Partition& partition, ClientOptions options, Log& log) {
  CHECK_EQ(static_cast<int>(servers.size()), partition.num_servers);
  rpc::Hello hello = self;
  hello.service = "params";
  auto state = std::make_shared<ClientState>(transport, table, partition, options, servers, log);
  auto client = std::make_unique<ClientImpl>(state);
  for (size_t i = 0; i < servers.size(); ++i) {
    const int server = static_cast<int>(i);
    auto stream = transport.Connect(servers[i], hello, std::make_unique<Handler>(state, server),
                                    {options.connect_timeout_ms, options.given_up});
    if (!stream.ok()) return state->Named(server, stream.status());
    state->AddStream(*std::move(stream));
  }
  return client;
}

}  // namespace muster::ps
