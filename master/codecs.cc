#include "master/codecs.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <utility>

namespace muster::master {
namespace {

// A pattern and the codecs that it asks for.
struct Rule {
  std::string pattern;
  std::shared_ptr<const Codec> push, pull;
  bool used = false;
};

template <class Spec>
absl::StatusOr<Rule> RuleOf(const std::string& pattern, const Spec& spec) {
  Rule rule{pattern, nullptr, nullptr};
  ASSIGN_OR_RETURN(rule.push,
                   MakeCodec(spec.push().empty() ? "none" : spec.push(), spec.fraction()));
  ASSIGN_OR_RETURN(rule.pull,
                   MakeCodec(spec.pull().empty() ? "none" : spec.pull(), spec.pull_fraction()));
  return rule;
}

absl::Status NoneMatches(const std::string& pattern, const std::vector<ps::ParamSpec>& params) {
  const std::string names = absl::StrJoin(
      params, ", ", [](std::string* out, const ps::ParamSpec& spec) { *out += spec.name; });
  return absl::InvalidArgumentError(fmt::format(
      "training.codec.parameters: no parameter matches '{}'; the model has {}", pattern, names));
}

}  // namespace

absl::Status SetCodecs(const CodecSpec& spec, std::vector<ps::ParamSpec>* params) {
  std::vector<Rule> rules;
  for (const ParameterCodec& parameter : spec.parameters()) {
    ASSIGN_OR_RETURN(rules.emplace_back(), RuleOf(parameter.pattern(), parameter));
  }
  ASSIGN_OR_RETURN(rules.emplace_back(), RuleOf("*", spec));
  rules.back().used = true;
  for (ps::ParamSpec& param : *params) {
    const auto matches = [&](const Rule& rule) {
      return fnmatch(rule.pattern.c_str(), param.name.c_str(), 0) == 0;
    };
    // Hidden by an earlier rule is not the same as misspelt.
    for (Rule& rule : rules) rule.used |= matches(rule);
    if (param.kind == ps::ParamSpec::Kind::kStatistic) continue;
    const Rule& first = *std::ranges::find_if(rules, matches);
    param.codec = first.push;
    param.pull_codec = first.pull;
  }
  for (const Rule& rule : rules) {
    if (!rule.used) return NoneMatches(rule.pattern, *params);
  }
  return absl::OkStatus();
}

}  // namespace muster::master
