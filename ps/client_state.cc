#include "ps/client_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "ps/wire.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

// Pushes wait for company until so much is queued for a server: below it a write costs more than
// its bytes.
constexpr int64_t kPushBytes = 64 << 10;
// The slices of one parameter until so much is there: what follows comes at once.
constexpr int64_t kSlicesBytes = 256 << 10;

int64_t CreditBytes(const ClientOptions& options, const Partition& partition) {
  if (options.credit_bytes > 0) return options.credit_bytes;
  int64_t largest = 0;
  for (const ParamSlice& slice : partition.slices) largest = std::max(largest, slice.size);
  return std::max(int64_t{4} << 20, 4 * largest * int64_t{sizeof(float)});
}

}  // namespace

ClientState::ClientState(rpc::Transport& transport, const ParamTable& table,
                         const Partition& partition, ClientOptions options,
                         std::vector<std::string> addresses, Log& log)
    : transport_(transport),
      table_(table),
      partition_(partition),
      encoder_(transport, table, partition),
      bundles_(transport, table, partition),
      options_(options),
      addresses_(std::move(addresses)),
      log_(log),
      closed_(addresses_.size(), false),
      pushes_(addresses_.size(), CreditBytes(options, partition),
              std::chrono::milliseconds(options.ack_timeout_ms)),
      arrivals_(table, partition),
      norms_(table, partition),
      standings_(partition.slices.size()) {
  std::vector<bool> told(addresses_.size(), false);
  for (size_t id = 0; id < partition.slices.size(); ++id) {
    const auto server = static_cast<size_t>(partition.server[id]);
    if (id > 0 && !told[server]) passes_to_.push_back(static_cast<int32_t>(id));
    told[server] = true;
  }
}

void ClientState::Shutdown() {
  {
    MutexLock lock(mu_);
    FailLocked(absl::CancelledError("the client is closed"));
  }
  for (const auto& stream : streams_) stream->Close();
  MutexLock lock(mu_);
  const auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    int n = 0;
    for (size_t i = 0; i < streams_.size(); ++i) n += closed_[i] ? 0 : 1;
    return n;
  };
  while (open() > 0) changed_.Wait(mu_);
}

void ClientState::Push(int32_t replica, int64_t step, ParamId param, std::span<const float> grad,
                       int priority, bool want_params) {
  CHECK_EQ(static_cast<int64_t>(grad.size()), table_.specs()[static_cast<size_t>(param)].size());
  for (const int32_t id : partition_.of_param[static_cast<size_t>(param)]) {
    const ParamSlice& slice = partition_.slices[static_cast<size_t>(id)];
    if (slice.params > 1) {
      auto whole = bundles_.Add(replica, step, id, param, grad, priority, want_params);
      if (!whole) return;
      PushSlice(replica, step, id, std::move(whole->payload), whole->priority, whole->want_params);
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

void ClientState::Flush() {
  for (size_t server = 0; server < streams_.size(); ++server) {
    {
      MutexLock lock(mu_);
      pushes_.Flush(static_cast<int>(server));
    }
    Pump(static_cast<int>(server), 0);
  }
}

void ClientState::Pull(int32_t replica, int64_t clock, int64_t version, bool all_at_clock) {
  const int32_t slices = static_cast<int32_t>(partition_.slices.size());
  {
    MutexLock lock(mu_);
    if (!error_.ok()) return;
    reader_ = replica;
    for (int32_t id = 0; id < slices; ++id) arrivals_.Expect(clock, id);
  }
  std::vector<rpc::Message> pulls;
  for (int32_t id = 0; id < slices; ++id) {
    pulls.push_back(PullMessage(id, replica, clock, version, all_at_clock));
  }
  SendAll(std::move(pulls));
}

absl::StatusOr<int64_t> ClientState::ClockOf(int32_t replica) {
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

absl::Status ClientState::Wait(int64_t clock) {
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

int64_t ClientState::missed(int32_t replica) {
  MutexLock lock(mu_);
  return standings_.missed(replica);
}

void ClientState::SetArena(std::span<float> arena) {
  MutexLock lock(mu_);
  arrivals_.SetArena(arena);
}

absl::StatusOr<std::shared_ptr<const WeightArenas>> ClientState::AllocateWeights() {
  ASSIGN_OR_RETURN(std::shared_ptr<WeightArenas> arenas, WeightArenas::Create(table_, partition_));
  MutexLock lock(mu_);
  arrivals_.SetArenas(arenas);
  return arenas;
}

void ClientState::Fail(absl::Status status) {
  MutexLock lock(mu_);
  FailLocked(std::move(status));
}

void ClientState::OnMessage(int server, const rpc::Message& message) {
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

void ClientState::OnClosed(int server, const absl::Status& status) {
  MutexLock lock(mu_);
  closed_[static_cast<size_t>(server)] = true;
  const std::string text = status.ok() ? "it closed the stream" : std::string(status.message());
  FailLocked(Named(server, absl::UnavailableError(text)));
  Changed();
}

absl::Status ClientState::Named(int server, const absl::Status& status) const {
  return absl::Status(status.code(), fmt::format("parameter server {} at {}: {}", server,
                                                 addresses_[static_cast<size_t>(server)],
                                                 std::string(status.message())));
}

void ClientState::PushSlice(int32_t replica, int64_t step, int32_t id, rpc::Payload payload,
                            int priority, bool want_params) {
  const int server = partition_.server[static_cast<size_t>(id)];
  {
    MutexLock lock(mu_);
    if (!error_.ok()) return;
    rpc::Message push = PushMessage(id, replica, step, want_params, std::move(payload));
    if (arrivals_.Holds(id, step)) push.header.flags |= kHoldsParams;
    pushes_.Add(server, priority, std::move(push));
    if (replica == 0) norms_step_ = std::max(norms_step_, step);
    if (want_params) {
      reader_ = replica;
      arrivals_.Expect(step + 1, id);
    }
  }
  Pump(server, kSlicesBytes);
}

void ClientState::Pump(int server, int64_t least_bytes) {
  std::optional<int> to;
  {
    MutexLock lock(mu_);
    to = pushes_.Begin(server, least_bytes) ? server : pushes_.Resume();
  }
  Send(to);
}

void ClientState::Send(std::optional<int> to) {
  while (to) {
    const int server = *to;
    const std::shared_ptr<rpc::Stream>& stream = streams_[static_cast<size_t>(server)];
    rpc::Message next;
    bool more = true;
    {
      MutexLock lock(mu_);
      more = pushes_.Take(server, next);
      if (!more) to = pushes_.Resume();
    }
    if (more) {
      Sent(server, stream->Queue(std::move(next)));
    } else {
      stream->Flush();
    }
  }
}

void ClientState::SendAll(std::vector<rpc::Message> messages) {
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

void ClientState::Sent(int server, const absl::Status& status) {
  if (!status.ok()) Fail(Named(server, absl::UnavailableError(std::string(status.message()))));
}

bool ClientState::Complete(int64_t clock) const {
  return !standings_.waiting() && arrivals_.missing(clock) == 0 &&
         pushes_.AcknowledgedBefore(clock);
}

bool ClientState::Passed(int64_t clock) const {
  return standings_.decided() >= clock && pushes_.AcknowledgedBefore(clock);
}

bool ClientState::Over(int64_t clock) const {
  return !error_.ok() || Complete(clock) || Passed(clock);
}

absl::Status ClientState::Await(int64_t clock, Clock::time_point limit) {
  Help(clock, limit);
  while (!Over(clock)) {
    const auto until = NextLook(limit);
    if (until == Clock::time_point::max()) {
      changed_.Wait(mu_);
    } else if (!changed_.WaitUntil(mu_, until)) {
      const auto now = Clock::now();
      CheckAcks(now);
      if (now >= limit && !Over(clock)) return Late(clock);
    }
  }
  return error_;
}

void ClientState::Help(int64_t clock, Clock::time_point limit) {
  const auto until = NextLook(limit);
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

void ClientState::Changed() {
  changed_.NotifyAll();
  if (helping_) transport_.WakeHelper();
}

std::chrono::steady_clock::time_point ClientState::NextLook(Clock::time_point limit) const {
  const PushQueue::InFlight* const push = pushes_.FirstDue().push;
  return push == nullptr ? limit : std::min(push->deadline, limit);
}

void ClientState::CheckAcks(Clock::time_point now) {
  const auto [server, push] = pushes_.FirstDue();
  if (push == nullptr || push->deadline > now) return;
  FailLocked(Named(server, absl::DeadlineExceededError(fmt::format(
                               "no answer for {} ms to the push of slice {}, step {}, replica {}",
                               options_.ack_timeout_ms, push->slice, push->step, push->replica))));
}

void ClientState::Finish(int64_t clock, Clock::time_point begin) {
  last_pull_ms_ = 0;
  if (const auto first = arrivals_.Close(clock)) {
    const auto arriving = Clock::now() - std::max(begin, *first);
    last_pull_ms_ = std::max(0.0, std::chrono::duration<double, std::milli>(arriving).count());
  }
  reached_ = clock;
}

absl::Status ClientState::Late(int64_t clock) const {
  return absl::DeadlineExceededError(fmt::format(
      "the parameters of clock {} are not here after {} ms: {} of {} slices are "
      "missing",
      clock, options_.wait_timeout_ms, arrivals_.missing(clock), partition_.slices.size()));
}

void ClientState::FailLocked(absl::Status status) {
  if (!error_.ok()) return;
  error_ = std::move(status);
  pushes_.Clear();
  Changed();
}

void ClientState::OnAck(int server, const rpc::Header& header) {
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
    const Pushes::Ack ack = pushes_.Acknowledge(server, header);
    if (ack == Pushes::Ack::kNotSent) {
      log_.Warning("parameter server {}: ACK of a push that was not sent (slice {}, step {})",
                   server, header.slice, header.step);
      return;
    }
    if ((header.flags & kTellArrived) != 0 &&
        standings_.OnAck(static_cast<int32_t>(header.replica), header.step)) {
      arrived.push_back(ArrivedMessage(static_cast<int32_t>(header.replica), header.step));
    }
    if (ack == Pushes::Ack::kLastOfStep && Over(header.step + 1)) Changed();
  }
  if (!arrived.empty()) SendAll(std::move(arrived));
  Pump(server, kPushBytes);
}

void ClientState::OnGone(const rpc::Header& header) {
  {
    MutexLock lock(mu_);
    if (!standings_.OnGone(header.step)) return;
  }
  SendAll({ArrivedMessage(static_cast<int32_t>(header.replica), header.step)});
}

void ClientState::OnQuorum(const rpc::Message& message) {
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

void ClientState::OnNorms(const rpc::Message& message) {
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

void ClientState::OnParams(int server, const rpc::Message& message) {
  const rpc::Header& header = message.header;
  std::optional<Arrivals::Landing> landing;
  {
    MutexLock lock(mu_);
    landing = arrivals_.Find(header);
  }
  if (!landing) {
    log_.Warning("parameters that nobody asked for (slice {}, clock {})", header.slice,
                 header.step);
    return;
  }
  const auto came = Clock::now();
  // Outside the lock: answers of one stream never overlap, and a slice comes from one stream
  // only.
  const absl::Status taken = landing->Take(message);
  std::optional<int> may_go_on;
  {
    MutexLock lock(mu_);
    if (!taken.ok()) return FailLocked(Named(server, taken));
    arrivals_.Landed(header, *landing, came);
    pushes_.Answered(server, header.slice, header.step);
    may_go_on = pushes_.Resume();
    if (Complete(header.step)) Changed();
  }
  Send(may_go_on);
}

}  // namespace muster::ps
