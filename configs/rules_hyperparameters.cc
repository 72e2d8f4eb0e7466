// Rules of a study: trainingInput.hyperparameters.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "configs/rule_reporter.h"
#include "configs/rules.h"
#include "configs/scalar.h"

namespace muster {
namespace {

constexpr int kMaxDiscreteValues = 1000;

class StudyRules {
 public:
  explicit StudyRules(JobDraft* draft)
      : report_("trainingInput.hyperparameters", draft),
        study_(draft->job.training_input().hyperparameters()) {}

  void Run() {
    Trials();
    if (study_.params_size() == 0) {
      report_.Add("params", "required in hyperparameters",
                  "write at least one item with parameterName and type");
    }
    std::map<std::string, std::string> first;
    for (int i = 0; i < study_.params_size(); ++i) {
      const ParameterSpec& param = study_.params(i);
      const std::string path = IndexPath("params", i);
      const std::string& name = param.parameter_name();
      if (name.empty()) {
        report_.Add(path + ".parameterName", "required", "write the flag's name");
      } else if (const auto [it, is_new] = first.emplace(name, path); !is_new) {
        report_.Add(path + ".parameterName",
                    fmt::format("{} is repeated: the first one is at {}", Quoted(name),
                                report_.Where(it->second + ".parameterName")),
                    "give each parameter a name of its own");
      }
      Parameter(path, param);
    }
  }

 private:
  void Trials() {
    const auto at_least = [&](const char* field, bool given, int value, int low) {
      if (given && value < low) {
        report_.Add(field, fmt::format("{} is too small", value),
                    fmt::format("write {} or more", low));
      }
    };
    at_least("maxTrials", study_.has_max_trials(), study_.max_trials(), 1);
    at_least("maxParallelTrials", study_.has_max_parallel_trials(), study_.max_parallel_trials(),
             1);
    at_least("maxFailedTrials", study_.has_max_failed_trials(), study_.max_failed_trials(), 0);
  }

  void Parameter(const std::string& path, const ParameterSpec& param) {
    switch (param.type()) {
      case ParameterSpec::DOUBLE:
        if (study_.algorithm() == HyperparameterSpec::GRID_SEARCH) {
          report_.Add(path + ".type", "GRID_SEARCH cannot enumerate a DOUBLE",
                      "write DISCRETE with discreteValues, or another algorithm");
        }
        return Range(path, param);
      case ParameterSpec::INTEGER:
        return Range(path, param);
      case ParameterSpec::CATEGORICAL:
        return Categories(path, param);
      case ParameterSpec::DISCRETE:
        return Discrete(path, param);
      default:
        report_.Add(path + ".type", "required", "write DOUBLE, INTEGER, CATEGORICAL or DISCRETE");
    }
  }

  static bool IsLog(const ParameterSpec& param) {
    return param.scale_type() == ParameterSpec::UNIT_LOG_SCALE ||
           param.scale_type() == ParameterSpec::UNIT_REVERSE_LOG_SCALE;
  }

  void Positive(const std::string& path, const ParameterSpec& param, double value) {
    if (IsLog(param) && !(value > 0)) {
      report_.Add(path,
                  fmt::format("{} has no logarithm, and scaleType is {}", value,
                              ParameterSpec::ScaleType_Name(param.scale_type())),
                  "write a number above 0, or scaleType: UNIT_LINEAR_SCALE");
    }
  }

  void Bound(const std::string& path, const ParameterSpec& param, bool given, double value) {
    if (!given) {
      report_.Add(path,
                  fmt::format("required with type {}", ParameterSpec::Type_Name(param.type())),
                  "write a number");
      return;
    }
    if (!std::isfinite(value)) {
      report_.Add(path, fmt::format("{} is not finite", value), "write a finite number");
    } else if (param.type() == ParameterSpec::INTEGER && std::floor(value) != value) {
      report_.Add(path, fmt::format("{} is not an integer", value), "write one, or type: DOUBLE");
    }
    Positive(path, param, value);
  }

  void Range(const std::string& path, const ParameterSpec& param) {
    Bound(path + ".minValue", param, param.has_min_value(), param.min_value());
    Bound(path + ".maxValue", param, param.has_max_value(), param.max_value());
    if (param.has_min_value() && param.has_max_value() && param.min_value() > param.max_value()) {
      report_.Add(path + ".minValue",
                  fmt::format("{} is above maxValue {}", param.min_value(), param.max_value()),
                  "exchange them");
    }
  }

  void Categories(const std::string& path, const ParameterSpec& param) {
    if (param.categorical_values_size() == 0) {
      report_.Add(path + ".categoricalValues", "required with type CATEGORICAL",
                  "write the list of values");
    }
    std::set<std::string> seen;
    for (int i = 0; i < param.categorical_values_size(); ++i) {
      if (!seen.insert(param.categorical_values(i)).second) {
        report_.Add(IndexPath(path + ".categoricalValues", i),
                    fmt::format("{} is repeated", Quoted(param.categorical_values(i))),
                    "delete it");
      }
    }
  }

  void Discrete(const std::string& path, const ParameterSpec& param) {
    const std::string values = path + ".discreteValues";
    if (param.discrete_values_size() == 0) {
      report_.Add(values, "required with type DISCRETE", "write the list of numbers");
    }
    if (param.discrete_values_size() > kMaxDiscreteValues) {
      report_.Add(values, fmt::format("{} values", param.discrete_values_size()),
                  fmt::format("write at most {}", kMaxDiscreteValues));
    }
    for (int i = 0; i < param.discrete_values_size(); ++i) {
      const double value = param.discrete_values(i);
      const std::string at = IndexPath(values, i);
      if (!std::isfinite(value)) {
        report_.Add(at, fmt::format("{} is not finite", value), "write a finite number");
      } else if (i > 0 && !(value > param.discrete_values(i - 1))) {
        report_.Add(at, fmt::format("{} is not above the value before it", value),
                    "write the values in rising order, each once");
      }
      Positive(at, param, value);
    }
  }

  RuleReporter report_;
  const HyperparameterSpec& study_;
};

}  // namespace

void CheckHyperparameters(JobDraft* draft) {
  if (draft->job.training_input().has_hyperparameters()) StudyRules(draft).Run();
}

}  // namespace muster
