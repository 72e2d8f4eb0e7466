#include "ps/arrivals.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ps/pulled.h"
#include "ps/wire.h"
#include "telemetry/check.h"

namespace muster::ps {

void Arrivals::SetArena(std::span<float> arena) {
  CHECK_EQ(static_cast<int64_t>(arena.size()), table_.arena_size());
  if (arenas_ != nullptr) std::ranges::fill(held_, Held());
  arena_ = arena;
  arenas_ = nullptr;
}

void Arrivals::SetArenas(std::shared_ptr<WeightArenas> arenas) {
  std::ranges::fill(held_, Held());
  arenas_ = std::move(arenas);
}

void Arrivals::Expect(int64_t clock, int32_t slice) {
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

int64_t Arrivals::missing(int64_t clock) const {
  const auto pending = pending_.find(clock);
  return pending == pending_.end() ? 0 : pending->second.total_missing;
}

std::optional<Arrivals::Landing> Arrivals::Find(const rpc::Header& answer) const {
  const auto pending = pending_.find(answer.step);
  if (pending == pending_.end() || pending->second.missing[answer.slice] == 0) return std::nullopt;
  const ParamSlice& slice = partition_.slices[answer.slice];
  Landing landing{.spec = &table_.specs()[static_cast<size_t>(slice.param)],
                  .held = held_[answer.slice],
                  .arenas = pending->second.arenas,
                  .out = {}};
  if (landing.arenas == nullptr) {
    landing.out = pending->second.arena.subspan(static_cast<size_t>(slice.offset(table_)),
                                                static_cast<size_t>(slice.size));
  }
  return landing;
}

absl::Status Arrivals::Landing::Take(const rpc::Message& message) const {
  const rpc::Header& header = message.header;
  const bool delta = (header.flags & kDelta) != 0;
  if (delta && held.clock == header.step) return absl::OkStatus();  // was asked for twice
  if (delta && (held.clock != header.step - 1 || (held.values == nullptr) == (arenas == nullptr))) {
    return absl::InternalError(
        fmt::format("what '{}' changed by until clock {} came, and that of clock {} is here",
                    spec->name, header.step, held.clock));
  }
  if (delta && arenas == nullptr && held.values != out.data()) {
    std::copy_n(held.values, out.size(), out.data());
  }
  const absl::Status taken =
      arenas == nullptr ? Unpack(spec->pull_codec.get(), delta, message.payload, out)
                        : arenas->Take(static_cast<int32_t>(header.slice), header.step,
                                       message.payload, (header.flags & rpc::kInPlace) != 0, delta);
  if (!absl::IsInvalidArgument(taken)) return taken;
  return absl::InvalidArgumentError(
      fmt::format("the values of '{}' at clock {} cannot be decoded: {}; if they grow without "
                  "bound, lower the learning rate",
                  spec->name, header.step, std::string(taken.message())));
}

void Arrivals::Landed(const rpc::Header& answer, const Landing& landing, Clock::time_point came) {
  held_[answer.slice] = {answer.step, landing.out.data()};
  Pending& pending = pending_.find(answer.step)->second;
  pending.first = std::min(pending.first, came);
  --pending.missing[answer.slice];
  --pending.total_missing;
}

std::optional<Arrivals::Clock::time_point> Arrivals::Close(int64_t clock) {
  std::optional<Clock::time_point> first;
  if (const auto pending = pending_.find(clock); pending != pending_.end()) {
    first = pending->second.first;
  }
  pending_.erase(pending_.begin(), pending_.upper_bound(clock));
  return first;
}

}  // namespace muster::ps
