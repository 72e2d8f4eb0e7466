#include "cluster/build_facts.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace muster::cluster {
namespace {

constexpr int kOfMajor = 10;  // 75 is 7.5
struct Cuda {
  int64_t major;
  int oldest_gpu;
  int64_t oldest_driver;  // minor versions do with the driver of the major one
};
constexpr Cuda kCudas[] = {{11, 35, 450}, {12, 50, 525}, {13, 75, 580}};

Cuda FactsOf(int64_t major) {
  const auto* found = std::ranges::find(kCudas, major, &Cuda::major);
  return found == std::end(kCudas) ? Cuda{major, 0, 0} : *found;
}

}  // namespace

std::optional<Version> ParseVersion(std::string_view text) {
  const auto number = [&](int64_t* value) {
    const size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
    const bool sound = absl::SimpleAtoi(absl::string_view(text.data(), end), value);
    text.remove_prefix(end);
    return sound;
  };
  Version version;
  if (!number(&version.major)) return std::nullopt;
  if (!text.starts_with('.')) return version;
  text.remove_prefix(1);
  if (!number(&version.minor)) return std::nullopt;
  return version;
}

std::string ToString(const Version& version) {
  return fmt::format("{}.{}", version.major, version.minor);
}

bool BuildFacts::RunsOn(int capability) const {
  if (capability < OldestGpu()) return false;
  if (gpu_code.empty() && gpu_form.empty()) return true;
  // Compiled code runs on later GPUs of its major version, a form on all later ones.
  return std::ranges::any_of(gpu_code,
                             [&](int code) {
                               return code / kOfMajor == capability / kOfMajor &&
                                      code <= capability;
                             }) ||
         std::ranges::any_of(gpu_form, [&](int form) { return form <= capability; });
}

int BuildFacts::OldestGpu() const { return FactsOf(cuda->major).oldest_gpu; }
int64_t BuildFacts::OldestDriver() const { return FactsOf(cuda->major).oldest_driver; }

absl::StatusOr<BuildFacts> ParseBuildFacts(const std::string& text) {
  const absl::Status wrong =
      absl::InvalidArgumentError("says in another form what it is built for");
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto text_of = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string()
               ? json[key].get<std::string>()
               : std::string("?");
  };
  BuildFacts facts;
  const auto glibc = ParseVersion(text_of("glibc"));
  const std::string cuda = text_of("cuda");
  facts.cuda = ParseVersion(cuda);
  if (!glibc || (!facts.cuda && !cuda.empty())) return wrong;
  facts.glibc = *glibc;
  if (!json.contains("gpuArchitectures") || !json["gpuArchitectures"].is_array()) return wrong;
  for (const nlohmann::json& architecture : json["gpuArchitectures"]) {
    const std::string name = architecture.is_string() ? architecture.get<std::string>() : "";
    const auto capability = ParseVersion(name);
    if (!capability) return wrong;
    if (!name.ends_with("-virtual")) facts.gpu_code.push_back(static_cast<int>(capability->major));
    if (!name.ends_with("-real")) facts.gpu_form.push_back(static_cast<int>(capability->major));
  }
  return facts;
}

}  // namespace muster::cluster
