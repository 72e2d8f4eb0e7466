#include "ps/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <utility>

#include "ps/bundle.h"
#include "ps/encoder.h"
#include "ps/pulled.h"
#include "ps/push_queue.h"
#include "ps/standings.h"
#include "ps/wire.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"

namespace muster::ps {
namespace {

using Clock = std::chrono::steady_clock;

// Pushes wait for company until so much is queued for a server: below it a write costs more than
// its bytes.
constexpr int64_t kPushBytes = 64 << 10;
// The slices of one parameter until so much is there: what follows comes at once.
constexpr int64_t kSlicesBytes = 256 << 10;

// What the client has for each server.
struct Link {
  PushQueue pushes;
  bool flush = false;    // what is queued shall go as soon as the credit allows
  bool pumping = false;  // a thread is sending; it also sends what others queue meanwhile
  bool closed = false;
};

// The parameters of a slice that came last. Deltas are added to them.
struct Held {
  int64_t clock = -1;       // -1: none
  float* values = nullptr;  // null: in the WeightArenas
};

// Parameters of one clock that were asked for.
struct Pending {
  std::span<float> arena;                // where they are copied to, unless there are
  std::shared_ptr<WeightArenas> arenas;  // which know better
  std::vector<int32_t> missing;          // by slice: answers still to come
  int64_t total_missing = 0;
  Clock::time_point first = Clock::time_point::max();  // when the first answer came
};

// What the client and its stream handlers share. Thread-safe.
class ClientState {
 public:
  ClientState(rpc::Transport& transport, const ParamTable& table, const Partition& partition,
              ClientOptions options, std::vector<std::string> addresses, Log& log)
      : transport_(transport),
        table_(table),
        partition_(partition),
        encoder_(transport, table, partition),
        bundles_(transport, table, partition),
        options_(options),
        addresses_(std::move(addresses)),
        log_(log),
        links_(addresses_.size(), {PushQueue(options.credit_bytes,
                                             std::chrono::milliseconds(options.ack_timeout_ms))}),
        held_(partition.slices.size()),
        norms_(table, partition),
        standings_(partition.slices.size()) {
    std::vector<bool> told(addresses_.size(), false);
    for (size_t id = 0; id < partition.slices.size(); ++id) {
      const auto server = static_cast<size_t>(partition.server[id]);
      if (id > 0 && !told[server]) passes_to_.push_back(static_cast<int32_t>(id));
      told[server] = true;
    }
  }

  void AddStream(std::shared_ptr<rpc::Stream> stream) { streams_.push_back(std::move(stream)); }

  void SetArena(std::span<float> arena) {
    CHECK_EQ(static_cast<int64_t>(arena.size()), table_.arena_size());
    MutexLock lock(mu_);
    if (arenas_ != nullptr) std::ranges::fill(held_, Held());
    arena_ = arena;
    arenas_ = nullptr;
  }

  absl::StatusOr<std::shared_ptr<const WeightArenas>> AllocateWeights() {
    ASSIGN_OR_RETURN(std::shared_ptr<WeightArenas> arenas,
                     WeightArenas::Create(table_, partition_));
    MutexLock lock(mu_);
    std::ranges::fill(held_, Held());
    arenas_ = arenas;
    return arenas;
  }

  void Push(int32_t replica, int64_t step, ParamId param, std::span<const float> grad, int priority,
            bool want_params) {
    CHECK_EQ(static_cast<int64_t>(grad.size()), table_.specs()[static_cast<size_t>(param)].size());
    for (const int32_t id : partition_.of_param[static_cast<size_t>(param)]) {
      const ParamSlice& slice = partition_.slices[static_cast<size_t>(id)];
      if (slice.params > 1) {
        auto whole = bundles_.Add(replica, step, id, param, grad, priority, want_params);
        if (!whole) return;
        PushSlice(replica, step, id, std::move(whole->payload), whole->priority,
                  whole->want_params);
      } else {
        PushSlice(replica, step, id,
                  encoder_.Encode(replica, id,
                                  grad.subspan(static_cast<size_t>(slice.begin),
                                               static_cast<size_t>(slice.size))),
                  priority, want_params);
      }
    }
    for (size_t server = 0; server < streams_.size(); ++server) {
      Pump(static_cast<int>(server), kPushBytes);
    }
  }

  std::shared_ptr<float[]> AllocateGradients() { return bundles_.Allocate(); }
  Encoder& encoder() { return encoder_; }

  void Flush() {
    for (size_t server = 0; server < streams_.size(); ++server) {
      {
        MutexLock lock(mu_);
        links_[server].flush = true;
      }
      Pump(static_cast<int>(server), 0);
    }
  }

  void Pull(int32_t replica, int64_t clock, int64_t version, bool all_at_clock) {
    const int32_t slices = static_cast<int32_t>(partition_.slices.size());
    {
      MutexLock lock(mu_);
      if (!error_.ok()) return;
      reader_ = replica;
      for (int32_t id = 0; id < slices; ++id) Expect(clock, id);
    }
    std::vector<rpc::Message> pulls;
    for (int32_t id = 0; id < slices; ++id) {
      pulls.push_back(PullMessage(id, replica, clock, version, all_at_clock));
    }
    SendAll(std::move(pulls));
  }

  absl::StatusOr<int64_t> ClockOf(int32_t replica) {
    const int32_t slices = static_cast<int32_t>(partition_.slices.size());
    {
      MutexLock lock(mu_);
      clock_answers_ = 0;
      least_clock_ = std::numeric_limits<int64_t>::max();
    }
    std::vector<rpc::Message> questions;
    for (int32_t id = 0; id < slices; ++id) questions.push_back(AskClockMessage(id, replica));
    SendAll(std::move(questions));
    const auto deadline = Clock::now() + std::chrono::milliseconds(options_.ack_timeout_ms);
    MutexLock lock(mu_);
    while (error_.ok() && clock_answers_ < slices) {
      if (changed_.WaitUntil(mu_, deadline) || Clock::now() < deadline) continue;
      FailLocked(absl::DeadlineExceededError(
          fmt::format("no answer for {} ms to the question for replica {}'s clock",
                      options_.ack_timeout_ms, replica)));
    }
    if (!error_.ok()) return error_;
    return slices == 0 ? 0 : least_clock_;
  }

  absl::Status Wait(int64_t clock) {
    Flush();
    if (absl::Status whole = bundles_.CheckWhole(clock); !whole.ok()) Fail(std::move(whole));
    const auto begin = Clock::now();
    const auto limit = options_.wait_timeout_ms > 0
                           ? begin + std::chrono::milliseconds(options_.wait_timeout_ms)
                           : Clock::time_point::max();
    while (true) {
      int32_t replica = 0;
      {
        MutexLock lock(mu_);
        RETURN_IF_ERROR(Await(clock, limit));
        if (!Passed(clock)) {
          Finish(clock, begin);
          return absl::OkStatus();
        }
        clock = standings_.decided() + 1;
        replica = reader_;
      }
      Pull(replica, clock, /*version=*/clock, /*all_at_clock=*/false);
    }
  }

  int64_t reached() const { return reached_; }
  int64_t missed(int32_t replica) {
    MutexLock lock(mu_);
    return standings_.missed(replica);
  }
  double last_pull_ms() const { return last_pull_ms_; }

  void Fail(absl::Status status) {
    MutexLock lock(mu_);
    FailLocked(std::move(status));
  }

  // Closes all streams and returns after their last handler call, when no server borrows a gradient
  // any more.
  void Shutdown() {
    {
      MutexLock lock(mu_);
      FailLocked(absl::CancelledError("the client is closed"));
    }
    for (const auto& stream : streams_) stream->Close();
    MutexLock lock(mu_);
    const auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      int n = 0;
      for (size_t i = 0; i < streams_.size(); ++i) n += links_[i].closed ? 0 : 1;
      return n;
    };
    while (open() > 0) changed_.Wait(mu_);
  }

  void OnMessage(int server, const rpc::Message& message) {
    if (message.header.type == rpc::MessageType::kError) {
      Fail(Named(server, StatusOf(message)));
      return;
    }
    if (absl::Status checked = CheckAnswer(message, table_, partition_, server); !checked.ok()) {
      Fail(Named(server, checked));
      return;
    }
    switch (message.header.type) {
      case rpc::MessageType::kAck:
        return OnAck(server, message.header);
      case rpc::MessageType::kNorms:
        return OnNorms(message);
      case rpc::MessageType::kQuorum:
        return OnQuorum(message);
      default:
        return OnParams(server, message);
    }
  }

  void OnClosed(int server, const absl::Status& status) {
    MutexLock lock(mu_);
    links_[static_cast<size_t>(server)].closed = true;
    const std::string text = status.ok() ? "it closed the stream" : std::string(status.message());
    FailLocked(Named(server, absl::UnavailableError(text)));
    Changed();
  }

  // `status` with the server's index and address in front.
  absl::Status Named(int server, const absl::Status& status) const {
    return absl::Status(status.code(), fmt::format("parameter server {} at {}: {}", server,
                                                   addresses_[static_cast<size_t>(server)],
                                                   std::string(status.message())));
  }

 private:
  void PushSlice(int32_t replica, int64_t step, int32_t id, rpc::Payload payload, int priority,
                 bool want_params) {
    {
      MutexLock lock(mu_);
      if (!error_.ok()) return;
      rpc::Message push = PushMessage(id, replica, step, want_params, std::move(payload));
      if (held_[static_cast<size_t>(id)].clock == step) push.header.flags |= kHoldsParams;
      links_[static_cast<size_t>(partition_.server[static_cast<size_t>(id)])].pushes.Add(
          priority, std::move(push));
      ++unfinished_pushes_[step];
      if (replica == 0) norms_step_ = std::max(norms_step_, step);
      if (want_params) {
        reader_ = replica;
        Expect(step + 1, id);
      }
    }
    Pump(partition_.server[static_cast<size_t>(id)], kSlicesBytes);
  }

  void Expect(int64_t clock, int32_t slice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Pending& pending = pending_[clock];
    if (pending.missing.empty()) {
      CHECK(arenas_ != nullptr || static_cast<int64_t>(arena_.size()) == table_.arena_size());
      pending.arena = arena_;
      pending.arenas = arenas_;
      pending.missing.resize(partition_.slices.size(), 0);
    }
    ++pending.missing[static_cast<size_t>(slice)];
    ++pending.total_missing;
  }

  // All parameters of `clock` are here, and no earlier push borrows its gradient any more; where
  // late replicas are dropped, it is known whether ours was.
  bool Complete(int64_t clock) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (standings_.waiting()) return false;
    const auto pending = pending_.find(clock);
    if (pending != pending_.end() && pending->second.total_missing > 0) return false;
    return unfinished_pushes_.empty() || unfinished_pushes_.begin()->first >= clock;
  }

  // The step that follows on `clock` is decided already; nothing pushed before is unacknowledged.
  bool Passed(int64_t clock) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return standings_.decided() >= clock &&
           (unfinished_pushes_.empty() || unfinished_pushes_.begin()->first >= clock);
  }

  // Nothing is left to wait for before `clock`.
  bool Over(int64_t clock) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !error_.ok() || Complete(clock) || Passed(clock);
  }

  // Until the parameters of `clock` are complete, or passed.
  absl::Status Await(int64_t clock, Clock::time_point limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Help(clock, limit);
    while (!Over(clock)) {
      const Clock::time_point* deadline = FirstDeadline();
      const auto until = deadline == nullptr ? limit : std::min(*deadline, limit);
      if (until == Clock::time_point::max()) {
        changed_.Wait(mu_);
      } else if (!changed_.WaitUntil(mu_, until)) {
        const auto now = Clock::now();
        CheckDeadlines(now);
        if (now >= limit && !Over(clock)) return Late(clock);
      }
    }
    return error_;
  }

  // The parameters of `clock`, for which the wait began at `begin`, are complete.
  void Finish(int64_t clock, Clock::time_point begin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto pending = pending_.find(clock);
    last_pull_ms_ = 0;
    if (pending != pending_.end()) {
      const auto arriving = Clock::now() - std::max(begin, pending->second.first);
      last_pull_ms_ = std::max(0.0, std::chrono::duration<double, std::milli>(arriving).count());
    }
    pending_.erase(pending_.begin(), pending_.upper_bound(clock));
    reached_ = clock;
  }

  // Works for the transport, where that can use it, until there is nothing to wait for.
  void Help(int64_t clock, Clock::time_point limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const Clock::time_point* deadline = FirstDeadline();
    const auto until = deadline == nullptr ? limit : std::min(*deadline, limit);
    const auto over = [&] {
      MutexLock lock(mu_);
      return Over(clock);
    };
    helping_ = true;
    mu_.Unlock();
    transport_.Help(over, until);
    mu_.Lock();
    helping_ = false;
  }

  // Whoever waits looks again.
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    changed_.NotifyAll();
    if (helping_) transport_.WakeHelper();
  }

  absl::Status Late(int64_t clock) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto pending = pending_.find(clock);
    return absl::DeadlineExceededError(fmt::format(
        "the parameters of clock {} are not here after {} ms: {} of {} slices are "
        "missing",
        clock, options_.wait_timeout_ms,
        pending == pending_.end() ? 0 : pending->second.total_missing, partition_.slices.size()));
  }

  const Clock::time_point* FirstDeadline() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const Clock::time_point* first = nullptr;
    for (const Link& link : links_) {
      const PushQueue::InFlight* const oldest = link.pushes.oldest();
      if (oldest == nullptr) continue;
      if (first == nullptr || oldest->deadline < *first) first = &oldest->deadline;
    }
    return first;
  }

  void CheckDeadlines(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (size_t server = 0; server < links_.size(); ++server) {
      const PushQueue::InFlight* const push = links_[server].pushes.oldest();
      if (push == nullptr || push->deadline > now) continue;
      FailLocked(Named(static_cast<int>(server),
                       absl::DeadlineExceededError(fmt::format(
                           "no answer for {} ms to the push of slice {}, step {}, replica {}",
                           options_.ack_timeout_ms, push->slice, push->step, push->replica))));
    }
  }

  void FailLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!error_.ok()) return;
    error_ = std::move(status);
    for (Link& link : links_) link.pushes.Clear();
    Changed();
  }

  // Sends what the credit allows, once `least_bytes` are queued or Flush was called. One thread
  // at a time sends to a server, so the order of the queue is the order on the wire; no lock is
  // held inside Queue.
  void Pump(int server, int64_t least_bytes) {
    Link* link = nullptr;
    {
      MutexLock lock(mu_);
      link = &links_[static_cast<size_t>(server)];
      if (link->pumping || !(link->flush || link->pushes.queued_bytes() >= least_bytes)) return;
      link->pumping = true;
    }
    const std::shared_ptr<rpc::Stream>& stream = streams_[static_cast<size_t>(server)];
    while (true) {
      rpc::Message next;
      bool more = true;
      {
        MutexLock lock(mu_);
        more = link->pushes.Take(next);
        if (!more) {
          link->pumping = false;
          link->flush &= link->pushes.queued_bytes() > 0;
        }
      }
      if (!more) return stream->Flush();
      Sent(server, stream->Queue(std::move(next)));
    }
  }

  // Sends each message to the server of its slice, and those for one server together.
  void SendAll(std::vector<rpc::Message> messages) {
    std::vector<bool> used(streams_.size(), false);
    for (rpc::Message& message : messages) {
      const int server = partition_.server[message.header.slice];
      used[static_cast<size_t>(server)] = true;
      Sent(server, streams_[static_cast<size_t>(server)]->Queue(std::move(message)));
    }
    for (size_t i = 0; i < streams_.size(); ++i) {
      if (used[i]) streams_[i]->Flush();
    }
  }

  void Sent(int server, const absl::Status& status) {
    if (!status.ok()) Fail(Named(server, absl::UnavailableError(std::string(status.message()))));
  }

  void OnAck(int server, const rpc::Header& header) {
    if ((header.flags & kAskClock) != 0) {
      MutexLock lock(mu_);
      ++clock_answers_;
      least_clock_ = std::min(least_clock_, header.step);
      Changed();
      return;
    }
    if (header.code == static_cast<uint16_t>(AckCode::kGone)) return OnGone(header);
    std::vector<rpc::Message> arrived;
    {
      MutexLock lock(mu_);
      if (!links_[static_cast<size_t>(server)].pushes.Acknowledge(header)) {
        log_.Warning("parameter server {}: ACK of a push that was not sent (slice {}, step {})",
                     server, header.slice, header.step);
        return;
      }
      if ((header.flags & kTellArrived) != 0 &&
          standings_.OnAck(static_cast<int32_t>(header.replica), header.step)) {
        arrived.push_back(ArrivedMessage(static_cast<int32_t>(header.replica), header.step));
      }
      const auto left = unfinished_pushes_.find(header.step);
      if (--left->second == 0) {
        unfinished_pushes_.erase(left);
        if (Over(header.step + 1)) Changed();
      }
    }
    if (!arrived.empty()) SendAll(std::move(arrived));
    Pump(server, kPushBytes);
  }

  // The others are far ahead: asks where, once.
  void OnGone(const rpc::Header& header) {
    {
      MutexLock lock(mu_);
      if (!standings_.OnGone(header.step)) return;
    }
    SendAll({ArrivedMessage(static_cast<int32_t>(header.replica), header.step)});
  }

  // Passes the news on before anything else: others may wait for them.
  void OnQuorum(const rpc::Message& message) {
    const int64_t step = message.header.step;
    const std::string bits = message.payload.Flatten();
    std::vector<rpc::Message> news;
    {
      MutexLock lock(mu_);
      if (step <= standings_.decided()) return;
    }
    // A decision of a run before this one counts nobody.
    const bool known = std::ranges::any_of(bits, [](char byte) { return byte != 0; });
    for (const int32_t id : known ? passes_to_ : std::vector<int32_t>()) {
      rpc::Message& copy = news.emplace_back(message);
      copy.header.slice = static_cast<uint32_t>(id);
      copy.payload = rpc::Payload::Own(bits);
    }
    SendAll(std::move(news));
    MutexLock lock(mu_);
    standings_.OnDecision(step, bits);
    Changed();
  }

  // Answers all slices once the norms of all are there (ps/norms.h).
  void OnNorms(const rpc::Message& message) {
    const rpc::Header& header = message.header;
    const auto round = static_cast<NormRound>(header.code);
    std::vector<rpc::Message> answers;
    {
      MutexLock lock(mu_);
      if (header.step > norms_step_) {
        log_.Warning("norms of a step that was not pushed (slice {}, step {})", header.slice,
                     header.step);
        return;
      }
      for (const int32_t id :
           norms_.Add(static_cast<int32_t>(header.slice), header.step, round, message.payload)) {
        answers.push_back(TotalsMessage(id, header.step, round, norms_.Of(id, round)));
      }
    }
    SendAll(std::move(answers));
  }

  void OnParams(int server, const rpc::Message& message) {
    const size_t id = message.header.slice;
    const ParamSlice& slice = partition_.slices[id];
    std::span<float> out;
    std::shared_ptr<WeightArenas> arenas;
    Held held;
    {
      MutexLock lock(mu_);
      held = held_[id];
      const auto pending = pending_.find(message.header.step);
      if (pending == pending_.end() || pending->second.missing[id] == 0) {
        log_.Warning("parameters that nobody asked for (slice {}, clock {})", id,
                     message.header.step);
        return;
      }
      arenas = pending->second.arenas;
      if (arenas == nullptr) {
        out = pending->second.arena.subspan(static_cast<size_t>(slice.offset(table_)),
                                            static_cast<size_t>(slice.size));
      }
    }
    const auto arrived = Clock::now();
    // Outside the lock: answers of one stream never overlap, and a slice comes from one stream
    // only.
    const absl::Status taken = Take(message, held, arenas.get(), out);
    MutexLock lock(mu_);
    if (!taken.ok()) return FailLocked(Named(server, taken));
    held_[id] = {message.header.step, out.data()};
    const auto pending = pending_.find(message.header.step);
    if (pending->second.first == Clock::time_point::max()) pending->second.first = arrived;
    --pending->second.missing[id];
    --pending->second.total_missing;
    if (Complete(message.header.step)) Changed();
  }

  // Brings a slice to what the message says: in `arenas`, or else in `out`.
  absl::Status Take(const rpc::Message& message, const Held& held, WeightArenas* arenas,
                    std::span<float> out) const {
    const rpc::Header& header = message.header;
    const ParamSlice& slice = partition_.slices[header.slice];
    const ParamSpec& spec = table_.specs()[static_cast<size_t>(slice.param)];
    const bool delta = (header.flags & kDelta) != 0;
    if (delta && held.clock == header.step) return absl::OkStatus();  // was asked for twice
    if (delta &&
        (held.clock != header.step - 1 || (held.values == nullptr) == (arenas == nullptr))) {
      return absl::InternalError(
          fmt::format("what '{}' changed by until clock {} came, and that of clock {} is here",
                      spec.name, header.step, held.clock));
    }
    if (delta && arenas == nullptr && held.values != out.data()) {
      std::copy_n(held.values, out.size(), out.data());
    }
    const absl::Status taken =
        arenas == nullptr
            ? Unpack(spec.pull_codec.get(), delta, message.payload, out)
            : arenas->Take(static_cast<int32_t>(header.slice), header.step, message.payload,
                           (header.flags & rpc::kInPlace) != 0, delta);
    if (!absl::IsInvalidArgument(taken)) return taken;
    return absl::InvalidArgumentError(
        fmt::format("the values of '{}' at clock {} cannot be decoded: {}; if they grow without "
                    "bound, lower the learning rate",
                    spec.name, header.step, std::string(taken.message())));
  }

  // Constant after Connect.
  rpc::Transport& transport_;
  const ParamTable& table_;
  const Partition& partition_;
  Encoder encoder_;  // Push's thread's, as is
  Bundles bundles_;
  const ClientOptions options_;
  const std::vector<std::string> addresses_;
  Log& log_;
  std::vector<std::shared_ptr<rpc::Stream>> streams_;  // by server
  double last_pull_ms_ = 0;                            // Wait's thread's
  int64_t reached_ = 0;                                // likewise
  std::vector<int32_t> passes_to_;  // a slice of each server but the arbiter (ps/quorum.h)

  Mutex mu_;
  bool helping_ ABSL_GUARDED_BY(mu_) = false;  // the thread that waits does so in the transport
  CondVar changed_;  // pending, unfinished_pushes, error or closed changed
  std::vector<Link> links_ ABSL_GUARDED_BY(mu_);                       // by server
  std::map<int64_t, Pending> pending_ ABSL_GUARDED_BY(mu_);            // by clock
  std::map<int64_t, int64_t> unfinished_pushes_ ABSL_GUARDED_BY(mu_);  // by step: not acknowledged
  int32_t clock_answers_ ABSL_GUARDED_BY(mu_) = 0;                     // of slices, to Clock
  int64_t least_clock_ ABSL_GUARDED_BY(mu_) = 0;                       // of these
  std::vector<Held> held_ ABSL_GUARDED_BY(mu_);                        // by slice
  NormTotals norms_ ABSL_GUARDED_BY(mu_);
  int64_t norms_step_ ABSL_GUARDED_BY(mu_) = -1;  // the newest step of replica 0 that was pushed
  Standings standings_ ABSL_GUARDED_BY(mu_);
  int32_t reader_ ABSL_GUARDED_BY(mu_) = 0;  // the replica that asked for parameters last
  std::span<float> arena_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<WeightArenas> arenas_ ABSL_GUARDED_BY(mu_);  // or null: arena_
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

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
  std::vector<SavedSlice> Residuals(int32_t replica) override {
    return state_->encoder().Residuals(replica);
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
