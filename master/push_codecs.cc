#include "master/push_codecs.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <utility>

namespace muster::master {
namespace {

template <class Spec>
absl::StatusOr<std::shared_ptr<const Codec>> CodecOf(const Spec& spec) {
  return MakeCodec(spec.push().empty() ? "none" : spec.push(), spec.fraction());
}

// A pattern and the codec that it asks for.
struct Rule {
  std::string pattern;
  std::shared_ptr<const Codec> codec;
  bool used = false;
};

absl::Status NoneMatches(const std::string& pattern, const std::vector<ps::ParamSpec>& params) {
  const std::string names = absl::StrJoin(
      params, ", ", [](std::string* out, const ps::ParamSpec& spec) { *out += spec.name; });
  return absl::InvalidArgumentError(fmt::format(
      "training.codec.parameters: no parameter matches '{}'; the model has {}", pattern, names));
}

}  // namespace

absl::Status SetPushCodecs(const CodecSpec& spec, std::vector<ps::ParamSpec>* params) {
  std::vector<Rule> rules;
  for (const ParameterCodec& parameter : spec.parameters()) {
    ASSIGN_OR_RETURN(auto codec, CodecOf(parameter));
    rules.push_back({parameter.pattern(), std::move(codec)});
  }
  ASSIGN_OR_RETURN(auto otherwise, CodecOf(spec));
  rules.push_back({"*", std::move(otherwise), /*used=*/true});
  for (ps::ParamSpec& param : *params) {
    const auto matches = [&](const Rule& rule) {
      return fnmatch(rule.pattern.c_str(), param.name.c_str(), 0) == 0;
    };
    // Hidden by an earlier rule is not the same as misspelt.
    for (Rule& rule : rules) rule.used |= matches(rule);
    if (param.kind == ps::ParamSpec::Kind::kStatistic) continue;
    param.codec = std::ranges::find_if(rules, matches)->codec;
  }
  for (const Rule& rule : rules) {
    if (!rule.used) return NoneMatches(rule.pattern, *params);
  }
  return absl::OkStatus();
}

}  // namespace muster::master
