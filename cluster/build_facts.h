// BuildFacts: what the programs of this build need of a machine: built_for.json, which CMake writes
// beside bin/, and which the bundle has.
//
// Value types; pure functions: thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/status.h"

namespace muster::cluster {

struct Version {
  int64_t major = 0, minor = 0;
  auto operator<=>(const Version&) const = default;
};

// "2.36", "13"; what follows the second number is not looked at. Empty for what begins otherwise.
std::optional<Version> ParseVersion(std::string_view text);
std::string ToString(const Version& version);  // "2.36"

struct BuildFacts {
  Version glibc;                // the oldest that the programs run on
  std::optional<Version> cuda;  // of the GPU plug-in; none: there is no plug-in
  // Compute capabilities times ten, such as 75: of compiled code, and of code that the driver
  // translates for later GPUs. Both empty: all GPUs of its CUDA.
  std::vector<int> gpu_code, gpu_form;

  // The following have the PRECONDITION: cuda.
  // Whether GPUs of such a capability run the plug-in.
  bool RunsOn(int capability) const;
  // The oldest GPUs that its CUDA has code for, and the oldest driver of NVIDIA's that it runs
  // with; 0 where that is not known.
  int OldestGpu() const;
  int64_t OldestDriver() const;
};

// {"glibc": "2.36", "cuda": "13.0", "gpuArchitectures": ["75-real", "90"]}, the last as CMake has
// them; "cuda" is "" where there is no plug-in. Fails on anything else.
absl::StatusOr<BuildFacts> ParseBuildFacts(const std::string& text);

}  // namespace muster::cluster
