#include "ps/slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ps/gradient_error.h"
#include "ps/wire.h"
#include "telemetry/check.h"

namespace muster::ps {

Slice::Slice(const BlockContext& context, int32_t id)
    : context_(context),
      id_(id),
      slice_(context.partition->slices[static_cast<size_t>(id)]),
      values_(context, slice_),
      needs_norms_(values_.has_weights() && context.policy->exact() &&
                   (Clips() || context.optimizer->has_trust_ratio())) {
  CHECK_GE(context.options->num_replicas, 1);
  state_.clocks.assign(static_cast<size_t>(context.options->num_replicas), 0);
  if (backups() > 0) pushed_.assign(state_.clocks.size(), -1);
}

void Slice::Initialize() {
  state_.version = oldest_version_ = 0;
  std::fill(state_.clocks.begin(), state_.clocks.end(), 0);
  values_.Initialize();
}

absl::Status Slice::Restore(const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(values_.Restore(checkpoint));
  state_.version = checkpoint.Version(slice_);
  oldest_version_ = state_.version;
  std::fill(state_.clocks.begin(), state_.clocks.end(), checkpoint.clock());
  return absl::OkStatus();
}

void Slice::OnPush(const std::shared_ptr<Peer>& peer, rpc::Message message) {
  CHECK_EQ(message.payload.size(), PushBytes(*context_.table, slice_));
  const auto bytes = static_cast<int64_t>(message.payload.size());
  rpc::Header header = message.header;
  if (backups() > 0) header.flags |= kTellArrived;  // its ACK's
  const auto v = static_cast<ReplicaId>(header.replica);
  int64_t& clock = state_.clocks[header.replica];
  // Steps are computed from their own version; so a slice holds one gradient of each replica.
  if (header.step > (backups() > 0 ? state_.version : clock)) {
    Refuse(*peer, header,
           absl::FailedPreconditionError(
               fmt::format("replica {} pushed step {} of {}, but its clock there is {}", v,
                           header.step, Name(), clock)));
    return;
  }
  if (!poisoned_.ok()) {
    Refuse(*peer, header, poisoned_);
    return;
  }
  const Verdict verdict = context_.policy->OnPush(state_, v, header.step);
  const bool wants = (header.flags & rpc::kWantParams) != 0;
  const int64_t global_step = state_.min_clock();
  const int64_t staleness = Staleness(header.step);
  if (v == 0 && needs_norms_) norms_.peer = peer;
  if (verdict != Verdict::kDrop) {
    if (const absl::Status checked = values_.CheckEncoding(message.payload); !checked.ok()) {
      RefuseEncoding(*peer, header, checked);
      return;
    }
  }
  switch (verdict) {
    case Verdict::kDrop: {
      message.payload = {};
      const bool late = backups() > 0 && header.step > pushed_[header.replica];
      if (late) pushed_[header.replica] = header.step;
      Count(late ? context_.counters->dropped : context_.counters->repeated);
      context_.outbox->Send(*peer, AckMessage(header, late ? AckCode::kLate : AckCode::kRepeated));
      if (v == 0 && header.step == norms_.step) {
        for (const NormRound round : {NormRound::kGradient, NormRound::kTrust}) SendNorms(round);
      }
      break;
    }
    case Verdict::kHold:
      message.header = header;
      Hold(peer, std::move(message));
      return;
    case Verdict::kFold:
    case Verdict::kApply: {
      const StepInfo info = MakeStepInfo(verdict, staleness, global_step);
      const bool finite = Add(header, message.payload, verdict, info);
      message.payload = {};
      if (!finite) {
        RefuseNonFinite(*peer, header, verdict);
        return;
      }
      ++clock;
      Count(context_.counters->pushes);
      Count(context_.counters->bytes_in, bytes);
      CountStaleness(*context_.counters, staleness);
      context_.outbox->Send(*peer, AckMessage(header, AckCode::kConsumed));
      Fold(header, verdict, info);
      FoldHeld(staleness, global_step);
      break;
    }
  }
  if (wants) {
    AddReader(peer, header, reads_in_place() && verdict != Verdict::kDrop);
  }
  AnswerReaders();
  ReachCuts();
}

void Slice::OnCut(const std::shared_ptr<Cut>& cut) {
  cuts_.emplace(cut->clock, cut);
  ReachCuts();
}

void Slice::Detach(const Peer& peer) {
  for (const auto& gradient : held_) {
    if (gradient->peer.get() == &peer) {
      gradient->payload = rpc::Payload::Own(gradient->payload.Flatten());
    }
  }
  std::erase_if(readers_, [&](const Reader& reader) { return reader.peer.get() == &peer; });
  if (norms_.peer.get() == &peer) norms_.peer = nullptr;
}

TraceSpan Slice::Traced(const char* name, int64_t step, int64_t replica) const {
  const ParamSpec& first = context_.table->specs()[static_cast<size_t>(slice_.param)];
  return {context_.trace, name, step, static_cast<int32_t>(replica), id_, first.name.c_str()};
}

std::string Slice::Name() const { return SliceName(*context_.table, slice_); }

bool Slice::Add(const rpc::Header& header, const rpc::Payload& gradient, Verdict verdict,
                const StepInfo& info) {
  const bool update = Fused(verdict);
  const TraceSpan span = Traced(update ? "sum and apply" : "sum", header.step, header.replica);
  return values_.Add(gradient, state_.next_replica, update ? &info : nullptr);
}

bool Slice::Fused(Verdict verdict) const {
  return verdict == Verdict::kApply && context_.policy->exact() && !needs_norms_;
}

void Slice::Fold(const rpc::Header& header, Verdict verdict, const StepInfo& info) {
  ++state_.next_replica;
  if (verdict != Verdict::kApply) return;
  if (needs_norms_) return BeginNorms(info);
  if (!Fused(verdict)) Apply(header, info);
  Advance();
}

void Slice::Apply(const rpc::Header& header, const StepInfo& info) {
  const TraceSpan span = Traced("apply", header.step, header.replica);
  values_.Apply(info, state_.next_replica);
}

void Slice::Advance() {
  ++state_.version;
  values_.Advance(state_.version);
  state_.next_replica = 0;
  oldest_version_ = std::max(oldest_version_, state_.version - 1);
  Count(context_.counters->applies);
}

StepInfo Slice::MakeStepInfo(Verdict verdict, int64_t staleness, int64_t global_step) const {
  StepInfo info;
  if (verdict != Verdict::kApply) return info;
  info.step = global_step;
  info.applies = state_.version + 1;
  info.learning_rate = (*context_.schedule)(global_step);
  info.scale = context_.policy->Scale(staleness, context_.options->num_replicas);
  info.clip_value = context_.options->clip_value;
  info.weight_decay = context_.options->weight_decay;
  return info;
}

void Slice::Hold(const std::shared_ptr<Peer>& peer, rpc::Message message) {
  const rpc::Header header = message.header;
  const auto bytes = static_cast<int64_t>(message.payload.size());
  auto gradient = std::make_shared<HeldGradient>();
  gradient->peer = peer;
  gradient->header = header;
  gradient->payload = std::move(message.payload);
  if (!context_.held->Admit(gradient)) {
    gradient->payload = {};
    Refuse(*peer, header,
           absl::ResourceExhaustedError(fmt::format(
               "{} bytes of gradients are held for their turn; replica {} exceeds its credit",
               context_.held->bytes(), header.replica)));
    return;
  }
  ++state_.clocks[header.replica];
  if (backups() > 0) pushed_[header.replica] = header.step;
  held_.push_back(std::move(gradient));
  Count(context_.counters->pushes);
  Count(context_.counters->held);
  Count(context_.counters->bytes_in, bytes);
  Count(context_.counters->held_bytes, bytes);
  if ((header.flags & rpc::kWantParams) != 0) {
    AddReader(peer, header, reads_in_place());
  }
  AnswerReaders();
}

void Slice::FoldHeld(int64_t staleness, int64_t global_step) {
  for (auto it = held_.begin(); it != held_.end();) {
    const std::shared_ptr<HeldGradient> gradient = *it;
    const rpc::Header& header = gradient->header;
    const Verdict verdict =
        context_.policy->OnHeld(state_, static_cast<ReplicaId>(header.replica), header.step);
    if (verdict == Verdict::kHold) {
      ++it;
      continue;
    }
    held_.erase(it);
    if (!FoldOne(*gradient, verdict, staleness, global_step)) return;
    it = held_.begin();
  }
}

bool Slice::FoldOne(HeldGradient& gradient, Verdict verdict, int64_t staleness,
                    int64_t global_step) {
  const rpc::Header& header = gradient.header;
  const StepInfo info = MakeStepInfo(verdict, staleness, global_step);
  const bool finite = Add(header, gradient.payload, verdict, info);
  Release(gradient, /*answer=*/finite);
  if (!finite) {
    RefuseNonFinite(*gradient.peer, header, verdict);
    return false;
  }
  CountStaleness(*context_.counters, Staleness(header.step));
  Fold(header, verdict, info);
  return true;
}

void Slice::Release(HeldGradient& gradient, bool answer) {
  Count(context_.counters->held_bytes, -static_cast<int64_t>(gradient.payload.size()));
  context_.held->Release(gradient, answer);
}

int64_t Slice::Staleness(int64_t step) const {
  return std::max<int64_t>(0, *std::max_element(state_.clocks.begin(), state_.clocks.end()) - step);
}

void Slice::Refuse(const Peer& peer, const rpc::Header& header, const absl::Status& status) {
  Count(context_.counters->refused);
  context_.outbox->Send(peer, ErrorMessage(header, status));
}

void Slice::RefuseEncoding(const Peer& peer, const rpc::Header& header, const absl::Status& why) {
  const absl::Status status = BadGradient(Name(), header.step, header.replica,
                                          "cannot be decoded: " + std::string(why.message()));
  Refuse(peer, header, status);
  if (context_.events->on_bad_push) context_.events->on_bad_push(status);
}

void Slice::RefuseNonFinite(const Peer& peer, const rpc::Header& header, Verdict verdict) {
  const absl::Status status =
      NonFiniteGradient(Name(), header.step, header.replica, values_.codec());
  Refuse(peer, header, status);
  // A first gradient is only copied, and its replica may push again. Not so when it was added to
  // others, had been counted as held, or its finite part has changed the slots.
  const bool counted = state_.clocks[header.replica] > header.step;
  // A fused update has overwritten a part of the back parity.
  if (Fused(verdict)) oldest_version_ = state_.version;
  if (state_.next_replica > 0 || counted || Fused(verdict)) Poison(status);
  if (context_.events->on_bad_push) context_.events->on_bad_push(status);
}

void Slice::Poison(absl::Status status) {
  poisoned_ = std::move(status);
  norms_.awaited.reset();
  for (const auto& gradient : std::exchange(held_, {})) {
    Release(*gradient, /*answer=*/false);
    Refuse(*gradient->peer, gradient->header, poisoned_);
  }
  AnswerReaders();
  ReachCuts();
}

void Slice::ReachCuts() {
  // The clock's version is still to come.
  if (norms_.awaited || (backups() > 0 && state_.min_clock() > state_.version)) return;
  // Only the earliest is looked at: a long job has thousands of them, and this runs at every push.
  while (!cuts_.empty()) {
    const std::shared_ptr<Cut> cut = cuts_.begin()->second;
    const int64_t clock = state_.min_clock();
    if (poisoned_.ok() && clock < cut->clock) return;
    cuts_.erase(cuts_.begin());
    if (!poisoned_.ok()) {
      context_.cuts->Fail(cut, poisoned_);
    } else if (clock == cut->clock) {
      Save(cut);
    } else {
      context_.cuts->Fail(
          cut, absl::OutOfRangeError(fmt::format("cannot save clock {}: {} is at clock {} already",
                                                 cut->clock, Name(), clock)));
    }
  }
}

void Slice::Save(const std::shared_ptr<Cut>& cut) {
  SavedSlice saved;
  saved.slice = id_;
  saved.version = state_.version;
  values_.SaveTo(saved);
  context_.cuts->Add(cut, std::move(saved));
}

}  // namespace muster::ps
