#include "worker/models/models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace muster::worker {
namespace {

struct Entry {
  const char* name;
  int64_t least_bins;
  std::unique_ptr<Model> (*make)(const ImageModelSettings&, Device&);
};

constexpr Entry kModels[] = {
    {"single_fc", 1, MakeSingleFc},
    {"conv", 1, MakeConv},
    {"low_latency_conv", 8, MakeLowLatencyConv},
    {"low_latency_svdf", 1, MakeLowLatencySvdf},
    {"tiny_conv", 1, MakeTinyConv},
    {"conv_norm", 1, MakeConvNorm},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeImageModel(const std::string& name,
                                                      const ImageModelSettings& settings,
                                                      Device& device) {
  for (const Entry& entry : kModels) {
    if (name != entry.name) continue;
    if (settings.frames < 1 || settings.bins < entry.least_bins) {
      return absl::InvalidArgumentError(
          fmt::format("{} needs images of at least 1 frame by {} coefficients, not {} by {}", name,
                      entry.least_bins, settings.frames, settings.bins));
    }
    return entry.make(settings, device);
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown model_architecture \"{}\"; write one of {}", name,
                  fmt::join(ImageModelNames(), ", ")));
}

std::vector<std::string> ImageModelNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kModels) names.emplace_back(entry.name);
  return names;
}

}  // namespace muster::worker
