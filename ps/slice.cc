#include "ps/slice.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "kernels/optimizer_math.h"
#include "ps/init.h"
#include "ps/wire.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

// A payload that owns a copy of `payload`.
rpc::Payload Copied(const rpc::Payload& payload) { return rpc::Payload::Own(payload.Flatten()); }

}  // namespace

Slice::Slice(const BlockContext& context, int32_t id)
    : context_(context),
      id_(id),
      slice_(context.partition->slices[static_cast<size_t>(id)]),
      runs_(MakeRuns()),
      needs_norms_(HasWeights() && context.policy->exact() &&
                   (Clips() || context.optimizer->has_trust_ratio())),
      big_(slice_.size > kQuantum),
      weights_(static_cast<size_t>(slice_.size) * sizeof(float),
               [this] { return AllocateWeights(); }),
      pulled_(context.table->specs()[static_cast<size_t>(slice_.param)].pull_codec, slice_.size,
              context.options->allocate) {
  CHECK_GE(context.options->num_replicas, 1);
  CHECK(context.policy->exact() || !pulled_.deltas());
  state_.clocks.assign(static_cast<size_t>(context.options->num_replicas), 0);
  if (backups() > 0) pushed_.assign(state_.clocks.size(), -1);
  sum_ = MakeBuffer();
  for (size_t i = 0; HasWeights() && i < context.optimizer->slot_names().size(); ++i) {
    slots_.push_back(MakeBuffer());
    std::fill_n(slots_.back().get(), slice_.size,
                context.optimizer->slot_init(static_cast<int>(i)));
  }
}

void Slice::Initialize() {
  state_.version = oldest_version_ = 0;
  std::fill(state_.clocks.begin(), state_.clocks.end(), 0);
  ForEachPart(*context_.table, slice_, [&](const ParamSlice& part, int64_t at) {
    InitialValues(context_.table->specs()[static_cast<size_t>(part.param)], context_.options->seed,
                  part.begin,
                  Weights(front_).subspan(static_cast<size_t>(at), static_cast<size_t>(part.size)));
  });
  if (pulled_.deltas()) std::ranges::copy(Weights(front_), pulled_.shadow(front_).begin());
}

absl::Status Slice::Restore(const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(checkpoint.Read(slice_, "", Weights(front_)));
  const std::vector<std::string> names = context_.optimizer->slot_names();
  for (size_t i = 0; i < slots_.size(); ++i) {
    RETURN_IF_ERROR(checkpoint.Read(slice_, names[i], View(slots_[i])));
  }
  if (pulled_.deltas()) {
    RETURN_IF_ERROR(checkpoint.Read(slice_, kShadowSlot, pulled_.shadow(front_)));
  }
  state_.version = checkpoint.Version(slice_);
  if (context_.policy->exact() && state_.version != checkpoint.clock()) {
    return absl::FailedPreconditionError(fmt::format(
        "the checkpoint of clock {} has {} after {} applies: it was not made under {}; resume "
        "with the consistency mode that made it",
        checkpoint.clock(), Name(), state_.version, context_.policy->name()));
  }
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
    if (const absl::Status checked = CheckEncoding(message.payload); !checked.ok()) {
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
    if (gradient->peer.get() == &peer) gradient->payload = Copied(gradient->payload);
  }
  std::erase_if(readers_, [&](const Reader& reader) { return reader.peer.get() == &peer; });
  if (norms_.peer.get() == &peer) norms_.peer = nullptr;
}

TraceSpan Slice::Traced(const char* name, int64_t step, int64_t replica) const {
  const ParamSpec& first = context_.table->specs()[static_cast<size_t>(slice_.param)];
  return {context_.trace, name, step, static_cast<int32_t>(replica), id_, first.name.c_str()};
}

// The padding behind a parameter belongs to its run: it stays 0, as its weights, gradients and
// averages are.
std::vector<Slice::Run> Slice::MakeRuns() const {
  std::vector<Run> runs;
  ForEachPart(*context_.table, slice_, [&](const ParamSlice& part, int64_t at) {
    const ParamSpec& spec = context_.table->specs()[static_cast<size_t>(part.param)];
    if (!runs.empty()) runs.back().end = at;
    if (!runs.empty() && !context_.optimizer->has_trust_ratio() &&
        runs.back().spec->kind == spec.kind && runs.back().spec->decay == spec.decay &&
        runs.back().spec->lr_scale == spec.lr_scale &&
        runs.back().spec->momentum == spec.momentum) {
      return;
    }
    runs.push_back({at, 0, &spec});
  });
  runs.back().end = slice_.size;
  return runs;
}

bool Slice::HasWeights() const {
  return std::any_of(runs_.begin(), runs_.end(),
                     [](const Run& run) { return run.spec->kind == ParamSpec::Kind::kWeight; });
}

const Codec* Slice::codec() const {
  return context_.table->specs()[static_cast<size_t>(slice_.param)].codec.get();
}

std::string Slice::Name() const {
  const auto& specs = context_.table->specs();
  const std::string& name = specs[static_cast<size_t>(slice_.param)].name;
  if (slice_.params == 1) {
    return fmt::format("'{}'[{}:{}]", name, slice_.begin, slice_.begin + slice_.size);
  }
  return fmt::format("'{}' to '{}'", name,
                     specs[static_cast<size_t>(slice_.param + slice_.params - 1)].name);
}

std::shared_ptr<std::byte[]> Slice::AllocateWeights() const {
  const size_t bytes = static_cast<size_t>(slice_.size) * sizeof(float);
  const auto& allocate = context_.options->allocate;
  if (!allocate) return rpc::AllocateAligned(bytes);
  // At the same distance from a page as in the arena, so that readers can map whole pages there.
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t wanted = static_cast<size_t>(slice_.offset(*context_.table)) * sizeof(float) % page;
  const size_t spare = bytes < page ? 0 : page;
  const std::shared_ptr<std::byte[]> memory = allocate(bytes + spare);
  const size_t is = reinterpret_cast<uintptr_t>(memory.get()) % page;
  const size_t skipped = spare == 0 ? 0 : (wanted + page - is) % page;
  return {memory, memory.get() + skipped};
}

std::span<float> Slice::Weights(int parity) const {
  return {reinterpret_cast<float*>(weights_[parity].data()), static_cast<size_t>(slice_.size)};
}

Slice::Buffer Slice::MakeBuffer() const {
  return rpc::FloatsIn(rpc::AllocateAligned(static_cast<size_t>(slice_.size) * sizeof(float)));
}

std::span<float> Slice::View(const Buffer& buffer) const {
  return {buffer.get(), static_cast<size_t>(slice_.size)};
}

absl::Status Slice::CheckEncoding(rpc::Payload& gradient) const {
  if (codec() == nullptr) return absl::OkStatus();
  if (gradient.slices().size() != 1) gradient = Copied(gradient);
  return codec()->Check(gradient.slices().front().bytes, slice_.size);
}

bool Slice::Add(const rpc::Header& header, const rpc::Payload& gradient, Verdict verdict,
                const StepInfo& info) {
  const bool first = state_.next_replica == 0, update = Fused(verdict);
  const TraceSpan span = Traced(update ? "sum and apply" : "sum", header.step, header.replica);
  const auto add = [&](int64_t begin, const void* src, int64_t n) {
    // A gradient that is alone and used at once need not be kept: the same quantum of memory, which
    // stays in the cache, takes all its runs.
    float* sum = sum_.get() + (first && update ? 0 : begin);
    if (!(first ? CopyInto(sum, src, n) : AddInto(sum, src, n))) return false;
    if (update) Update(info, state_.next_replica + 1, begin, {sum, static_cast<size_t>(n)});
    if (big_) context_.yield();
    return true;
  };
  const Codec* const codec = this->codec();
  if (codec == nullptr) return ForEachRun(gradient, kQuantum, add);
  const std::span<const std::byte> encoded = gradient.slices().front().bytes;
  alignas(64) float decoded[kQuantum];  // stays in the cache
  for (int64_t begin = 0; begin < slice_.size; begin += kQuantum) {
    const int64_t n = std::min(kQuantum, slice_.size - begin);
    codec->Decode(encoded, slice_.size, begin, {decoded, static_cast<size_t>(n)});
    if (!add(begin, decoded, n)) return false;
  }
  return true;
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
  ForEachQuantum(
      [&](int64_t begin, std::span<float> sum) { Update(info, state_.next_replica, begin, sum); });
}

void Slice::ForEachQuantum(absl::FunctionRef<void(int64_t begin, std::span<float> sum)> visit) {
  for (int64_t begin = 0; begin < slice_.size; begin += kQuantum) {
    const auto size = static_cast<size_t>(std::min(kQuantum, slice_.size - begin));
    visit(begin, View(sum_).subspan(static_cast<size_t>(begin), size));
    if (big_) context_.yield();
  }
}

void Slice::Advance() {
  front_ = 1 - front_;
  ++state_.version;
  state_.next_replica = 0;
  oldest_version_ = std::max(oldest_version_, state_.version - 1);
  if (pulled_.deltas()) pulled_.Advance(front_, state_.version, Weights(front_));
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

void Slice::Update(const StepInfo& info, int n, int64_t begin, std::span<float> sum) {
  if (begin == 0) weights_.Renew(1 - front_);
  ForEachRunOf(begin, sum, [&](const Run& run, int64_t from, std::span<float> part) {
    UpdateRun(run, info, n, from, part);
  });
}

void Slice::ForEachRunOf(
    int64_t begin, std::span<float> sum,
    absl::FunctionRef<void(const Run& run, int64_t from, std::span<float> part)> visit) const {
  const int64_t end = begin + static_cast<int64_t>(sum.size());
  for (const Run& run : runs_) {
    const int64_t from = std::max(begin, run.begin), to = std::min(end, run.end);
    if (from >= to) continue;
    visit(run, from,
          sum.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from)));
  }
}

// Statistics: n of V replicas' values move the average n/V of the way that all V would; with
// backup workers V is the number that a step counts.
//   w_next = w + (1 - momentum) * n * scale * (sum / n - w),   scale = 1 / V
void Slice::UpdateRun(const Run& run, StepInfo info, int n, int64_t begin,
                      std::span<const float> sum) {
  const ParamSpec& spec = *run.spec;
  const auto at = static_cast<size_t>(begin);
  const std::span<const float> w = Weights(front_).subspan(at, sum.size());
  const std::span<float> next = Weights(1 - front_).subspan(at, sum.size());
  if (spec.kind == ParamSpec::Kind::kStatistic) {
    const bool all = n == context_.options->num_replicas - backups();
    const float share = all ? 1.0f : static_cast<float>(n) * info.scale;
    EmaUpdate(sum.data(), w.data(), next.data(), static_cast<int64_t>(sum.size()),
              1.0f / static_cast<float>(n), (1 - spec.momentum) * share);
    return;
  }
  context_.optimizer->Apply(InfoOf(run, info), sum, w, next, SlotViews(begin, sum.size()));
}

StepInfo Slice::InfoOf(const Run& run, StepInfo info) {
  info.learning_rate *= run.spec->lr_scale * run.trust;
  if (!run.spec->decay) info.weight_decay = 0;
  return info;
}

std::vector<std::span<float>> Slice::SlotViews(int64_t begin, size_t size) const {
  std::vector<std::span<float>> slots;
  for (const Buffer& slot : slots_) {
    slots.push_back(View(slot).subspan(static_cast<size_t>(begin), size));
  }
  return slots;
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

absl::Status Slice::BadGradient(const rpc::Header& header, const std::string& why) const {
  return absl::InvalidArgumentError(fmt::format("the gradient of {} at step {} from replica {} {}",
                                                Name(), header.step, header.replica, why));
}

void Slice::RefuseEncoding(const Peer& peer, const rpc::Header& header, const absl::Status& why) {
  const absl::Status status =
      BadGradient(header, "cannot be decoded: " + std::string(why.message()));
  Refuse(peer, header, status);
  if (context_.events->on_bad_push) context_.events->on_bad_push(status);
}

void Slice::RefuseNonFinite(const Peer& peer, const rpc::Header& header, Verdict verdict) {
  const Codec* const codec = this->codec();
  const absl::Status status = BadGradient(
      header, fmt::format("holds a value that is not finite{}, or makes the sum overflow; lower "
                          "the learning rate, or look at that replica's data",
                          codec == nullptr ? "" : fmt::format(" as {}", codec->name())));
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
  const auto copy = [](std::span<const float> view) {
    return std::vector<float>(view.begin(), view.end());
  };
  saved.weights = copy(Weights(front_));
  for (const Buffer& slot : slots_) saved.slots.push_back(copy(View(slot)));
  if (pulled_.deltas()) saved.slots.push_back(copy(pulled_.shadow(front_)));
  context_.cuts->Add(cut, std::move(saved));
}

}  // namespace muster::ps
