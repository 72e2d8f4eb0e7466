#include "ps/encoder.h"

#include "telemetry/check.h"

namespace muster::ps {
namespace {

constexpr size_t kAlignment = 64;  // bytes: encodings of two slices share no cache line

}  // namespace

Encoder::Encoder(rpc::Transport& transport, const ParamTable& table, const Partition& partition)
    : transport_(transport), table_(table), partition_(partition) {
  for (const ParamSlice& slice : partition.slices) {
    places_.push_back({encoded_size_, residual_size_});
    const auto& codec = table.specs()[static_cast<size_t>(slice.param)].codec;
    if (codec == nullptr) continue;
    const size_t size = codec->EncodedSize(slice.size);
    encoded_size_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    if (codec->has_residual()) residual_size_ += static_cast<size_t>(slice.size);
  }
}

rpc::Payload Encoder::Encode(int32_t replica, int32_t slice, std::span<const float> gradient) {
  const ParamSlice& where = partition_.slices[static_cast<size_t>(slice)];
  CHECK_EQ(static_cast<int64_t>(gradient.size()), where.size);
  const Codec* codec = table_.specs()[static_cast<size_t>(where.param)].codec.get();
  if (codec == nullptr) return rpc::Payload::Borrow(std::as_bytes(gradient));
  Replica& own = ReplicaOf(replica);
  const SliceEncoding encoding = EncodingOf(own, static_cast<size_t>(slice));
  if (own.left_to == nullptr) codec->Encode(gradient, encoding.residual, encoding.bytes);
  return rpc::Payload::Borrow(encoding.bytes, own.encodings);
}

ReplicaEncodings Encoder::LeaveTo(ReplicaEncoder& to, int32_t replica) {
  Replica& own = ReplicaOf(replica);
  own.left_to = &to;
  ReplicaEncodings all = {own.encodings, encoded_size_, {}};
  for (size_t id = 0; id < partition_.slices.size(); ++id) {
    if (table_.specs()[static_cast<size_t>(partition_.slices[id].param)].codec == nullptr) continue;
    all.slices.push_back(EncodingOf(own, id));
  }
  return all;
}

SliceEncoding Encoder::EncodingOf(Replica& own, size_t slice) const {
  const ParamSlice& where = partition_.slices[slice];
  const Codec& codec = *table_.specs()[static_cast<size_t>(where.param)].codec;
  SliceEncoding encoding = {
      .param = where.param,
      .begin = where.offset(table_),
      .size = where.size,
      .bytes = {own.encodings.get() + places_[slice].encoding, codec.EncodedSize(where.size)}};
  if (codec.has_residual()) {
    encoding.residual =
        std::span(own.residuals).subspan(places_[slice].residual, static_cast<size_t>(where.size));
  }
  return encoding;
}

absl::StatusOr<std::vector<SavedSlice>> Encoder::Residuals(int32_t replica) {
  const auto own = replicas_.find(replica);
  if (own != replicas_.end() && own->second.left_to != nullptr) {
    RETURN_IF_ERROR(own->second.left_to->BringResiduals(replica));
  }
  std::vector<SavedSlice> saved;
  for (size_t id = 0; id < partition_.slices.size(); ++id) {
    const ParamSlice& slice = partition_.slices[id];
    if (!HasResidual(slice)) continue;
    SavedSlice& out = saved.emplace_back();
    out.slice = static_cast<int32_t>(id);
    if (own == replicas_.end()) {
      out.weights.resize(static_cast<size_t>(slice.size), 0.0f);
    } else {
      const auto begin =
          own->second.residuals.begin() + static_cast<std::ptrdiff_t>(places_[id].residual);
      out.weights.assign(begin, begin + slice.size);
    }
  }
  return saved;
}

absl::Status Encoder::RestoreResiduals(int32_t replica, const Checkpoint& saved) {
  Replica& own = ReplicaOf(replica);
  CHECK(own.left_to == nullptr);
  for (size_t id = 0; id < partition_.slices.size(); ++id) {
    const ParamSlice& slice = partition_.slices[id];
    if (!HasResidual(slice)) continue;
    RETURN_IF_ERROR(saved.Read(
        slice, "",
        std::span(own.residuals).subspan(places_[id].residual, static_cast<size_t>(slice.size))));
  }
  return absl::OkStatus();
}

Encoder::Replica& Encoder::ReplicaOf(int32_t replica) {
  Replica& own = replicas_[replica];
  if (own.encodings == nullptr) {
    own.encodings = transport_.Allocate(encoded_size_);
    own.residuals.resize(residual_size_, 0.0f);
  }
  return own;
}

bool Encoder::HasResidual(const ParamSlice& slice) const {
  const auto& codec = table_.specs()[static_cast<size_t>(slice.param)].codec;
  return codec != nullptr && codec->has_residual();
}

}  // namespace muster::ps
