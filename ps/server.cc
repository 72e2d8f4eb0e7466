#include "ps/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "ps/pulled.h"
#include "ps/quorum.h"
#include "ps/residence.h"
#include "ps/shard.h"
#include "ps/wire.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

// What a slice saves beside its weights, in its order.
std::vector<std::string> SavedNames(const Optimizer& optimizer) {
  std::vector<std::string> names = optimizer.slot_names();
  names.emplace_back(kShadowSlot);
  return names;
}

class ServerImpl final : public Server {
 public:
  ServerImpl(const ParamTable& table, const Partition& partition, const ConsistencyPolicy& policy,
             const Optimizer& optimizer, Schedule schedule, ServerOptions options,
             ServerEvents events, Log& log)
      : table_(table),
        partition_(partition),
        policy_(policy),
        schedule_(std::move(schedule)),
        options_(std::move(options)),
        events_(std::move(events)),
        log_(log),
        cuts_(table, partition, SavedNames(optimizer), options_.index, events_) {
    BlockContext context;
    context.table = &table;
    context.partition = &partition;
    context.policy = &policy;
    context.optimizer = &optimizer;
    context.schedule = &schedule_;
    context.options = &options_;
    context.events = &events_;
    context.counters = &counters_;
    context.cuts = &cuts_;
    if (policy.backups() > 0) quorum_.emplace(options_.num_replicas, policy.backups());
    MakeShards(context);
  }

  absl::Status Initialize() override {
    if (quorum_) quorum_->Begin(0);
    for (const auto& shard : shards_) shard->Initialize();
    Start();
    return absl::OkStatus();
  }

  absl::Status Restore(const std::vector<std::string>& files, int64_t clock) override {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::OpenAt(files, table_, clock));
    for (const auto& shard : shards_) RETURN_IF_ERROR(shard->Restore(checkpoint));
    if (quorum_) quorum_->Begin(clock);
    Start();
    return absl::OkStatus();
  }

  rpc::Acceptor acceptor() override {
    return [this](const rpc::Hello& peer, std::shared_ptr<rpc::Stream> stream)
               -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
      if (peer.service != "params") {
        return absl::InvalidArgumentError(fmt::format(
            "parameter server {} serves 'params', not '{}'", options_.index, peer.service));
      }
      return std::make_unique<Handler>(*this, std::make_shared<Peer>(std::move(stream)));
    };
  }

  void CutAt(int64_t clock, const std::string& directory) override {
    const std::shared_ptr<Cut> cut = cuts_.Begin(clock, directory, num_slices_);
    for (const auto& shard : shards_) shard->PostCut(cut);
  }

  ServerStats stats() const override { return counters_.Read(); }

 private:
  // One worker's stream. Called by one thread at a time.
  class Handler final : public rpc::StreamHandler {
   public:
    Handler(ServerImpl& server, std::shared_ptr<Peer> peer)
        : server_(server), peer_(std::move(peer)) {}
    void OnMessage(rpc::Message message) override {
      Shard* const shard = server_.OnMessage(peer_, std::move(message));
      if (shard != nullptr && std::ranges::find(posted_, shard) == posted_.end()) {
        posted_.push_back(shard);
      }
    }
    void OnBatchEnd() override {
      // The last one's here, those of the others beside it.
      for (size_t i = 0; i < posted_.size(); ++i) posted_[i]->Run(i + 1 == posted_.size());
      posted_.clear();
    }
    void OnClosed(absl::Status /*status*/) override {
      peer_->closed = true;
      for (const auto& shard : server_.shards_) shard->PostDetach(peer_);
    }

   private:
    ServerImpl& server_;
    const std::shared_ptr<Peer> peer_;
    std::vector<Shard*> posted_;  // what came since the last OnBatchEnd is theirs
  };

  void MakeShards(BlockContext context) {
    std::vector<int32_t> own;
    std::vector<int64_t> sizes;
    for (size_t i = 0; i < partition_.slices.size(); ++i) {
      if (partition_.server[i] != options_.index) continue;
      own.push_back(static_cast<int32_t>(i));
      sizes.push_back(partition_.slices[i].size);
    }
    num_slices_ = own.size();
    const std::vector<int> shard = BalanceByWeight(sizes, options_.num_shards);
    std::vector<std::vector<int32_t>> of_shard(static_cast<size_t>(options_.num_shards));
    shard_of_.assign(partition_.slices.size(), nullptr);
    for (size_t i = 0; i < own.size(); ++i)
      of_shard[static_cast<size_t>(shard[i])].push_back(own[i]);
    for (const std::vector<int32_t>& slices : of_shard) {
      if (slices.empty()) continue;
      context.trace = TraceThread(options_.trace, fmt::format("shard {}", shards_.size()));
      const int shard_index = static_cast<int>(shards_.size());
      shards_.push_back(std::make_unique<Shard>(
          context, slices, options_.first_core < 0 ? -1 : options_.first_core + shard_index));
      for (const int32_t id : slices) shard_of_[static_cast<size_t>(id)] = shards_.back().get();
    }
  }

  void Start() {
    for (const auto& shard : shards_) shard->Start();
  }

  // Returns the shard that has something to do now, or null.
  Shard* OnMessage(const std::shared_ptr<Peer>& peer, rpc::Message message) {
    const absl::Status checked = CheckRequest(
        message, {&table_, &partition_, options_.index, options_.num_replicas, policy_.backups()});
    if (!checked.ok()) {
      Refuse(*peer, message.header, checked);
      return nullptr;
    }
    if (message.header.type == rpc::MessageType::kArrived) {
      OnArrived(peer, message.header);
      return nullptr;
    }
    if (message.header.type == rpc::MessageType::kQuorum) {
      OnQuorum(*peer, message);
      return nullptr;
    }
    Shard* shard = shard_of_[message.header.slice];
    shard->Post(peer, std::move(message));
    return shard;
  }

  void OnArrived(const std::shared_ptr<Peer>& peer, const rpc::Header& header) {
    const auto told = quorum_->OnArrived(static_cast<ReplicaId>(header.replica), header.step, peer);
    if (!told.ok()) return Refuse(*peer, header, told.status());
    if (told->now) Decide(told->newest);
    for (const auto& to : told->peers) {
      to->stream->Send(QuorumMessage(/*slice=*/0, told->newest)).IgnoreError();
    }
  }

  void OnQuorum(const Peer& peer, const rpc::Message& message) {
    if (partition_.server.front() == options_.index) {
      return Refuse(peer, message.header,
                    absl::FailedPreconditionError("the arbiter decides by itself"));
    }
    const Decision decision = DecisionOf(message, options_.num_replicas);
    const auto news = quorum_->OnDecision(decision);
    if (!news.ok()) return Refuse(peer, message.header, news.status());
    if (*news) Decide(decision);
  }

  void Decide(const Decision& decision) {
    for (const auto& shard : shards_) shard->PostDecision(decision);
  }

  void Refuse(const Peer& peer, const rpc::Header& header, const absl::Status& why) {
    Count(counters_.refused);
    const rpc::Hello& from = peer.stream->peer();
    log_.Warning("refused a message of {} {}: {}", from.role, from.index,
                 std::string(why.message()));
    peer.stream->Send(ErrorMessage(header, why)).IgnoreError();
  }

  // Constant after construction, or thread-safe.
  const ParamTable& table_;
  const Partition& partition_;
  const ConsistencyPolicy& policy_;
  const Schedule schedule_;
  const ServerOptions options_;
  const ServerEvents events_;
  Log& log_;
  ServerCounters counters_;
  std::optional<Quorum> quorum_;  // with backup workers
  CutWriter cuts_;
  size_t num_slices_ = 0;
  std::vector<std::unique_ptr<Shard>> shards_;  // destroyed first: their threads use the above
  std::vector<Shard*> shard_of_;                // by slice id; null: another server's
};

}  // namespace

std::unique_ptr<Server> Server::Make(const ParamTable& table, const Partition& partition,
                                     const ConsistencyPolicy& policy, const Optimizer& optimizer,
                                     Schedule schedule, ServerOptions options, ServerEvents events,
                                     Log& log) {
  CHECK_GE(options.num_shards, 1);
  CHECK_GE(options.num_replicas, 1);
  CHECK_LT(options.index, partition.num_servers);
  CHECK_LT(policy.backups(), options.num_replicas);
  if (const std::shared_ptr<Residence> residence = options.residence) {
    return Residence::MakeServer(residence, table, partition, policy, optimizer,
                                 std::move(schedule), std::move(options), std::move(events));
  }
  return std::make_unique<ServerImpl>(table, partition, policy, optimizer, std::move(schedule),
                                      std::move(options), std::move(events), log);
}

}  // namespace muster::ps
