#include "cluster/knobs.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "configs/scalar.h"

namespace muster::cluster {
namespace {

using worker::Flag;

constexpr char kRates[] = "training.schedule.learningRate";
constexpr char kSteps[] = "training.schedule.steps";
constexpr char kSchedule[] = "training.schedule";

class KnobMover {
 public:
  KnobMover(const worker::ModuleType& module, const worker::ParsedFlags& parsed, JobDraft* draft)
      : module_(module), parsed_(parsed), draft_(draft) {}

  void Run() {
    for (const Flag& flag : module_.flags) {
      if (flag.alias == kRates) {
        rates_ = &flag;
      } else if (flag.alias == kSteps) {
        steps_ = &flag;
      } else if (!flag.alias.empty()) {
        MoveScalar(flag);
      }
    }
    if (rates_ != nullptr && steps_ != nullptr) MoveSchedule();
  }

 private:
  bool IsGiven(const Flag& flag) const { return parsed_.given.contains(flag.name); }
  const std::string& Value(const Flag& flag) const { return parsed_.values.at(flag.name); }
  std::string ArgPath(const Flag& flag) const {
    return IndexPath("trainingInput.args", parsed_.given.at(flag.name));
  }
  // Where the flag was given; its own name where it has its default.
  Origin OriginOf(const Flag& flag) const {
    return IsGiven(flag) ? draft_->origins.Find(ArgPath(flag)) : Origin{"--" + flag.name};
  }
  void Add(const Flag& flag, std::string what, std::string write) {
    draft_->problems.Add(OriginOf(flag), IsGiven(flag) ? ArgPath(flag) : "", std::move(what),
                         std::move(write));
  }
  void AddConflict(const Flag& flag, const std::string& path) {
    Add(flag,
        fmt::format("--{}={} and {} at {} differ", flag.name, Value(flag), path,
                    ToString(draft_->origins.Find(path))),
        "keep one of them");
  }

  void MoveScalar(const Flag& flag) {
    JobDraft with_flag;
    with_flag.job = draft_->job;
    SetJobField(flag.alias, Value(flag), OriginOf(flag), &with_flag);
    for (const Problem& problem : with_flag.problems.Sorted()) {
      Add(flag, fmt::format("--{}: {}", flag.name, problem.what), problem.write);
    }
    if (!with_flag.problems.empty()) return;
    if (!draft_->origins.Has(flag.alias)) {
      draft_->job = std::move(with_flag.job);
      if (IsGiven(flag)) draft_->origins.Set(flag.alias, OriginOf(flag));
    } else if (IsGiven(flag) &&
               with_flag.job.SerializeAsString() != draft_->job.SerializeAsString()) {
      AddConflict(flag, flag.alias);
    }
  }

  // The flag's comma-separated values; empty, with a problem, when one is no number.
  template <typename T, typename Parse>
  std::vector<T> List(const Flag& flag, Parse parse) {
    std::vector<T> values;
    for (const std::string& text :
         static_cast<std::vector<std::string>>(absl::StrSplit(Value(flag), ','))) {
      Wrong wrong;
      const std::optional<T> value = parse(text, &wrong);
      if (!value) {
        Add(flag, fmt::format("--{}: {}", flag.name, wrong.what),
            "write numbers with commas between them, one for each stage");
        return {};
      }
      values.push_back(*value);
    }
    return values;
  }

  void MoveSchedule() {
    const std::vector<double> rates = List<double>(*rates_, ParseDouble);
    const std::vector<int64_t> steps =
        List<int64_t>(*steps_, [](const std::string& text, Wrong* wrong) {
          return ParseInt(text, 0, std::numeric_limits<int64_t>::max(), wrong);
        });
    if (rates.empty() || steps.empty()) return;
    if (draft_->origins.Has(kSchedule)) {
      CompareWithFile(rates, steps);
    } else if (rates.size() != steps.size()) {
      AddUnequal(rates.size(), steps.size());
    } else {
      SetSchedule(rates, steps);
    }
  }

  void CompareWithFile(const std::vector<double>& rates, const std::vector<int64_t>& steps) {
    const auto& stages = draft_->job.training().schedule();
    const auto same_rate = [](const Stage& s, double rate) { return s.learning_rate() == rate; };
    const auto same_steps = [](const Stage& s, int64_t n) { return s.steps() == n; };
    if (IsGiven(*rates_) &&
        !std::equal(stages.begin(), stages.end(), rates.begin(), rates.end(), same_rate)) {
      AddConflict(*rates_, kSchedule);
    }
    if (IsGiven(*steps_) &&
        !std::equal(stages.begin(), stages.end(), steps.begin(), steps.end(), same_steps)) {
      AddConflict(*steps_, kSchedule);
    }
  }

  std::string Counted(const Flag& flag, size_t size) const {
    return fmt::format("--{} has {} value{} ({}{})", flag.name, size, size == 1 ? "" : "s",
                       IsGiven(flag) ? "" : "the default ", Value(flag));
  }

  void AddUnequal(size_t rates, size_t steps) {
    const Flag& at = IsGiven(*rates_) ? *rates_ : *steps_;
    const Flag& other = &at == rates_ ? *steps_ : *rates_;
    const size_t here = &at == rates_ ? rates : steps, there = &at == rates_ ? steps : rates;
    Add(at, fmt::format("{}, but {}", Counted(at, here), Counted(other, there)),
        "write one of each for every stage");
  }

  void SetSchedule(const std::vector<double>& rates, const std::vector<int64_t>& steps) {
    auto* stages = draft_->job.mutable_training()->mutable_schedule();
    stages->Clear();
    for (size_t i = 0; i < rates.size(); ++i) {
      Stage* stage = stages->Add();
      stage->set_learning_rate(rates[i]);
      stage->set_steps(steps[i]);
      const std::string path = IndexPath(kSchedule, i);
      draft_->origins.Set(path + ".learningRate", OriginOf(*rates_));
      draft_->origins.Set(path + ".steps", OriginOf(*steps_));
    }
  }

  const worker::ModuleType& module_;
  const worker::ParsedFlags& parsed_;
  JobDraft* const draft_;
  const Flag* rates_ = nullptr;
  const Flag* steps_ = nullptr;
};

}  // namespace

void MoveKnobs(const worker::ModuleType& module, const worker::ParsedFlags& parsed,
               JobDraft* draft) {
  KnobMover(module, parsed, draft).Run();
}

}  // namespace muster::cluster
