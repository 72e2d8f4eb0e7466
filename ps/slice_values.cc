#include "ps/slice_values.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "kernels/optimizer_math.h"
#include "ps/init.h"
#include "ps/wire.h"
#include "telemetry/check.h"

namespace muster::ps {

SliceValues::SliceValues(const BlockContext& context, const ParamSlice& slice)
    : context_(context),
      slice_(slice),
      runs_(MakeRuns(*context.table, slice, *context.optimizer)),
      big_(slice_.size > kQuantum),
      weights_(static_cast<size_t>(slice_.size) * sizeof(float),
               [this] { return AllocateWeights(); }),
      pulled_(context.table->specs()[static_cast<size_t>(slice_.param)].pull_codec, slice_.size,
              context.options->allocate),
      sum_(MakeBuffer()) {
  CHECK(context.policy->exact() || !pulled_.deltas());
  for (size_t i = 0; has_weights() && i < context.optimizer->slot_names().size(); ++i) {
    slots_.push_back(MakeBuffer());
    std::fill_n(slots_.back().get(), slice_.size,
                context.optimizer->slot_init(static_cast<int>(i)));
  }
}

SliceValues::Buffer SliceValues::MakeBuffer() const {
  return rpc::FloatsIn(rpc::AllocateAligned(static_cast<size_t>(slice_.size) * sizeof(float)));
}

std::shared_ptr<std::byte[]> SliceValues::AllocateWeights() const {
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

std::span<float> SliceValues::Weights(int parity) const {
  return {reinterpret_cast<float*>(weights_[parity].data()), static_cast<size_t>(slice_.size)};
}

std::span<float> SliceValues::View(const Buffer& buffer) const {
  return {buffer.get(), static_cast<size_t>(slice_.size)};
}

std::vector<std::span<float>> SliceValues::SlotViews(int64_t begin, size_t size) const {
  std::vector<std::span<float>> slots;
  for (const Buffer& slot : slots_) {
    slots.push_back(View(slot).subspan(static_cast<size_t>(begin), size));
  }
  return slots;
}

void SliceValues::Initialize() {
  ForEachPart(*context_.table, slice_, [&](const ParamSlice& part, int64_t at) {
    InitialValues(context_.table->specs()[static_cast<size_t>(part.param)], context_.options->seed,
                  part.begin,
                  Weights(front_).subspan(static_cast<size_t>(at), static_cast<size_t>(part.size)));
  });
  if (pulled_.deltas()) std::ranges::copy(Weights(front_), pulled_.shadow(front_).begin());
}

absl::Status SliceValues::Restore(const Checkpoint& checkpoint) {
  const int64_t version = checkpoint.Version(slice_);
  if (context_.policy->exact() && version != checkpoint.clock()) {
    return absl::FailedPreconditionError(fmt::format(
        "the checkpoint of clock {} has {} after {} applies: it was not made under {}; resume "
        "with the consistency mode that made it",
        checkpoint.clock(), SliceName(*context_.table, slice_), version, context_.policy->name()));
  }
  RETURN_IF_ERROR(checkpoint.Read(slice_, "", Weights(front_)));
  const std::vector<std::string> names = context_.optimizer->slot_names();
  for (size_t i = 0; i < slots_.size(); ++i) {
    RETURN_IF_ERROR(checkpoint.Read(slice_, names[i], View(slots_[i])));
  }
  if (!pulled_.deltas()) return absl::OkStatus();
  return checkpoint.Read(slice_, kShadowSlot, pulled_.shadow(front_));
}

void SliceValues::SaveTo(SavedSlice& saved) const {
  const auto copy = [](std::span<const float> view) {
    return std::vector<float>(view.begin(), view.end());
  };
  saved.weights = copy(Weights(front_));
  for (const Buffer& slot : slots_) saved.slots.push_back(copy(View(slot)));
  if (pulled_.deltas()) saved.slots.push_back(copy(pulled_.shadow(front_)));
}

bool SliceValues::has_weights() const {
  return std::any_of(runs_.begin(), runs_.end(),
                     [](const Run& run) { return run.spec->kind == ParamSpec::Kind::kWeight; });
}

const Codec* SliceValues::codec() const {
  return context_.table->specs()[static_cast<size_t>(slice_.param)].codec.get();
}

absl::Status SliceValues::CheckEncoding(rpc::Payload& gradient) const {
  if (codec() == nullptr) return absl::OkStatus();
  if (gradient.slices().size() != 1) gradient = rpc::Payload::Own(gradient.Flatten());
  return codec()->Check(gradient.slices().front().bytes, slice_.size);
}

bool SliceValues::Add(const rpc::Payload& gradient, int added, const StepInfo* update) {
  const bool first = added == 0;
  const auto add = [&](int64_t begin, const void* src, int64_t n) {
    // A gradient that is alone and used at once need not be kept: the same quantum of memory, which
    // stays in the cache, takes all its runs.
    float* sum = sum_.get() + (first && update != nullptr ? 0 : begin);
    if (!(first ? CopyInto(sum, src, n) : AddInto(sum, src, n))) return false;
    if (update != nullptr) Update(*update, added + 1, begin, {sum, static_cast<size_t>(n)});
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

void SliceValues::Apply(const StepInfo& info, int n) {
  ForEachQuantum([&](int64_t begin, std::span<float> sum) { Update(info, n, begin, sum); });
}

void SliceValues::ForEachQuantum(
    absl::FunctionRef<void(int64_t begin, std::span<float> sum)> visit) {
  for (int64_t begin = 0; begin < slice_.size; begin += kQuantum) {
    const auto size = static_cast<size_t>(std::min(kQuantum, slice_.size - begin));
    visit(begin, View(sum_).subspan(static_cast<size_t>(begin), size));
    if (big_) context_.yield();
  }
}

// n of V replicas' statistics move the average n/V of the way that all V would; with backup workers
// V is the number that a step counts.
void SliceValues::Update(const StepInfo& info, int n, int64_t begin, std::span<float> sum) {
  if (begin == 0) weights_.Renew(1 - front_);
  const bool all = n == context_.options->num_replicas - context_.policy->backups();
  const float share = all ? 1.0f : static_cast<float>(n) * info.scale;
  ForEachRunOf(begin, sum, [&](const Run& run, int64_t from, std::span<float> part) {
    const auto at = static_cast<size_t>(from);
    UpdateRun(*context_.stream, *context_.optimizer, run, info, n, share,
              {part, Weights(front_).subspan(at, part.size()),
               Weights(1 - front_).subspan(at, part.size()), SlotViews(from, part.size())});
  });
}

void SliceValues::ForEachRunOf(
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

void SliceValues::Advance(int64_t version) {
  front_ = 1 - front_;
  if (pulled_.deltas()) pulled_.Advance(front_, version, Weights(front_));
}

std::vector<double> SliceValues::Squares(NormRound round) const {
  std::vector<double> sums;
  ForEachNormBlock(*context_.table, slice_, [&](ParamId, int64_t at, int64_t size) {
    if (round == NormRound::kTrust) {
      sums.push_back(SumOfSquares(Weights(front_).data() + at, size));
    }
    sums.push_back(SumOfSquares(sum_.get() + at, size));
    if (big_) context_.yield();
  });
  return sums;
}

void SliceValues::Direct(const StepInfo& info) {
  ForEachQuantum([&](int64_t begin, std::span<float> sum) {
    ForEachRunOf(begin, sum, [&](const Run& run, int64_t from, std::span<float> part) {
      if (run.spec->kind != ParamSpec::Kind::kWeight) return;
      const std::span<const float> w =
          Weights(front_).subspan(static_cast<size_t>(from), part.size());
      context_.optimizer->Direct(*context_.stream, InfoOf(run, info), part, w,
                                 SlotViews(from, part.size()));
    });
  });
}

void SliceValues::ResetTrust() {
  for (Run& run : runs_) run.trust = 1;
}

void SliceValues::SetTrust(const std::vector<double>& totals) {
  const double* next = totals.data();
  for (Run& run : runs_) {
    if (run.spec->kind != ParamSpec::Kind::kWeight) continue;
    const double w = std::sqrt(*next++), r = std::sqrt(*next++);
    if (run.spec->decay && w > 0 && r > 0) run.trust = static_cast<float>(w / r);
  }
  CHECK(next == totals.data() + totals.size());
}

SliceValues::Reading SliceValues::Read(int64_t version, bool front, bool in_place, bool holds) {
  const int parity = front ? front_ : 1 - front_;
  if (!pulled_.encodes()) return {weights_.Answer(parity, in_place)};
  if (holds && pulled_.has_delta(parity, version)) {
    return {pulled_.Delta(parity, in_place), /*delta=*/true};
  }
  return {pulled_.Whole(parity, version, Weights(parity), in_place)};
}

}  // namespace muster::ps
