#include "ps/bundle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "telemetry/check.h"

namespace muster::ps {

std::shared_ptr<float[]> Bundles::Allocate() {
  std::shared_ptr<float[]> arena =
      rpc::FloatsIn(transport_.Allocate(static_cast<size_t>(table_.arena_size()) * sizeof(float)));
  std::erase_if(arenas_, [](const auto& known) { return known.expired(); });
  arenas_.push_back(arena);
  return arena;
}

std::optional<Bundles::Whole> Bundles::Add(int32_t replica, int64_t step, int32_t slice,
                                           ParamId param, std::span<const float> grad, int priority,
                                           bool want_params) {
  const ParamSlice& place = partition_.slices[static_cast<size_t>(slice)];
  CHECK_GE(param, place.param);
  CHECK_LT(param, place.param + place.params);
  std::vector<Bundle>& own = bundles_[replica];
  if (own.empty()) own.resize(partition_.slices.size());
  Bundle& bundle = own[static_cast<size_t>(slice)];
  if (bundle.missing == 0 || bundle.step != step) {
    bundle.step = step;
    bundle.grads.assign(static_cast<size_t>(place.params), nullptr);
    bundle.missing = place.params;
    bundle.priority = priority;
    bundle.want_params = false;
  }
  const float*& noted = bundle.grads[static_cast<size_t>(param - place.param)];
  if (noted == nullptr) --bundle.missing;
  noted = grad.data();
  bundle.priority = std::min(bundle.priority, priority);
  bundle.want_params |= want_params;
  if (bundle.missing > 0) return std::nullopt;

  const auto size = static_cast<size_t>(place.size);
  Whole whole = {{}, bundle.priority, bundle.want_params};
  if (const float* arena = ArenaOf(place, bundle)) {
    whole.payload =
        rpc::Payload::Borrow(std::as_bytes(std::span(arena + place.offset(table_), size)));
    return whole;
  }
  if (bundle.gathered == nullptr) {
    bundle.gathered = rpc::FloatsIn(transport_.Allocate(size * sizeof(float)));
  }
  ForEachPart(table_, place, [&](const ParamSlice& part, int64_t at) {
    std::memcpy(bundle.gathered.get() + at,
                bundle.grads[static_cast<size_t>(part.param - place.param)],
                static_cast<size_t>(part.size) * sizeof(float));
  });
  whole.payload = rpc::Payload::Borrow(
      std::as_bytes(std::span<const float>(bundle.gathered.get(), size)), bundle.gathered);
  return whole;
}

absl::Status Bundles::CheckWhole(int64_t clock) const {
  for (const auto& [replica, bundles] : bundles_) {
    const auto partial = std::ranges::find_if(
        bundles, [&](const Bundle& b) { return b.missing > 0 && b.step < clock; });
    if (partial == bundles.end()) continue;
    const Bundle& bundle = *partial;
    const auto lacking =
        std::find(bundle.grads.begin(), bundle.grads.end(), nullptr) - bundle.grads.begin();
    const ParamSlice& place = partition_.slices[static_cast<size_t>(partial - bundles.begin())];
    const auto& specs = table_.specs();
    return absl::FailedPreconditionError(fmt::format(
        "replica {} did not push '{}' at step {}, but others of '{}' to '{}', which travel "
        "together; push every parameter at every step",
        replica, specs[static_cast<size_t>(place.param + lacking)].name, bundle.step,
        specs[static_cast<size_t>(place.param)].name,
        specs[static_cast<size_t>(place.param + place.params - 1)].name));
  }
  return absl::OkStatus();
}

const float* Bundles::ArenaOf(const ParamSlice& slice, const Bundle& bundle) {
  for (const std::weak_ptr<float[]>& known : arenas_) {
    const std::shared_ptr<float[]> arena = known.lock();
    if (arena == nullptr) continue;
    bool here = true;
    for (int32_t i = 0; i < slice.params && here; ++i) {
      here = bundle.grads[static_cast<size_t>(i)] == arena.get() + table_.offset(slice.param + i);
    }
    if (here) return arena.get();
  }
  return nullptr;
}

}  // namespace muster::ps
