#include "ps/optimizer.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>

#include <algorithm>

#include "ps/optimizers/optimizers.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

struct Entry {
  const char* name;
  std::vector<std::string> params;  // hyper-parameters it knows
  OptimizerOr (*make)(const OptimizerParams& params);
};

const std::vector<Entry>& Table() {
  static const std::vector<Entry> table = {
      {"sgd", {}, MakeSgd},
      {"momentum", {"momentum"}, MakeMomentum},
      {"nesterov", {"momentum"}, MakeNesterov},
      {"adagrad", {"initial_accumulator", "epsilon"}, MakeAdagrad},
      {"rmsprop", {"rho", "momentum", "epsilon", "centered"}, MakeRmsprop},
      {"adam", {"beta1", "beta2", "epsilon"}, MakeAdam},
      {"adamw", {"beta1", "beta2", "epsilon"}, MakeAdamW},
      {"lamb", {"beta1", "beta2", "epsilon"}, MakeLamb},
      {"ftrl", {"learning_rate_power", "initial_accumulator", "l1", "l2"}, MakeFtrl},
  };
  return table;
}

}  // namespace

OptimizerOr MakeOptimizer(const std::string& name, const std::map<std::string, double>& params) {
  const auto entry =
      std::find_if(Table().begin(), Table().end(), [&](const Entry& e) { return name == e.name; });
  if (entry == Table().end()) {
    return absl::InvalidArgumentError(fmt::format("unknown optimizer '{}'; write one of {}", name,
                                                  absl::StrJoin(OptimizerNames(), ", ")));
  }
  for (const auto& [param, value] : params) {
    if (std::find(entry->params.begin(), entry->params.end(), param) != entry->params.end()) {
      continue;
    }
    const std::string valid = entry->params.empty()
                                  ? "it has none"
                                  : "write one of " + absl::StrJoin(entry->params, ", ");
    return absl::InvalidArgumentError(
        fmt::format("optimizer '{}' has no hyper-parameter '{}'; {}", name, param, valid));
  }
  auto made = entry->make(params);
  if (!made.ok()) {
    return absl::Status(made.status().code(), fmt::format("optimizer '{}': {}", name,
                                                          std::string(made.status().message())));
  }
  return made;
}

std::vector<std::string> OptimizerNames() {
  std::vector<std::string> names;
  for (const Entry& entry : Table()) names.push_back(entry.name);
  return names;
}

absl::StatusOr<float> ReadParam(const OptimizerParams& params, const std::string& name,
                                double fallback, double low, double high) {
  const auto found = params.find(name);
  const double value = found == params.end() ? fallback : found->second;
  // Checked as float32, which is what the update computes with: 1 - 1e-12 rounds to 1.
  const float as_float = static_cast<float>(value);
  if (!(value >= low && value < high && as_float < static_cast<float>(high))) {
    return absl::InvalidArgumentError(
        fmt::format("{} is {}; it must be at least {} and below {}", name, value, low, high));
  }
  return as_float;
}

UpdateInput MakeUpdateInput(const StepInfo& info, std::span<const float> grad,
                            std::span<const float> w, std::span<float> w_next) {
  CHECK_EQ(grad.size(), w.size());
  CHECK_EQ(grad.size(), w_next.size());
  UpdateInput in{};
  in.grad = grad.data();
  in.w = w.data();
  in.w_next = w_next.data();
  in.n = static_cast<int64_t>(grad.size());
  in.scale = info.scale;
  in.clip = info.clip_value;
  in.decay = info.weight_decay;
  in.learning_rate = info.learning_rate;
  return in;
}

}  // namespace muster::ps
