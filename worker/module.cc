#include "worker/module.h"

#include <fmt/format.h>

#include <algorithm>

#include "configs/nearest.h"
#include "configs/scalar.h"

namespace muster::worker {
namespace {

const Flag* FindFlag(const ModuleType& module, const std::string& name) {
  for (const Flag& flag : module.flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

// True when `value` can stand for the flag's type.
bool Fits(const Flag& flag, const std::string& value, Wrong* wrong) {
  switch (flag.type) {
    case Flag::Type::kInt:
      return ParseInt(value, INT64_MIN, INT64_MAX, wrong).has_value();
    case Flag::Type::kDouble:
      return ParseDouble(value, wrong).has_value();
    case Flag::Type::kBool:
      return ParseBool(value, wrong).has_value();
    case Flag::Type::kString:
    case Flag::Type::kFolder:
      return true;
  }
  return false;
}

class FlagParser {
 public:
  FlagParser(const ModuleType& module, std::span<const std::string> args)
      : module_(module), args_(args) {
    for (const Flag& flag : module.flags) parsed_.values[flag.name] = flag.default_value;
  }

  ParsedFlags Run() {
    while (next_ < args_.size()) ParseOne(next_++);
    return std::move(parsed_);
  }

 private:
  void Add(size_t arg, std::string what, std::string write) {
    parsed_.problems.push_back({arg, std::move(what), std::move(write)});
  }

  void ParseOne(size_t at) {
    const std::string& arg = args_[at];
    if (!arg.starts_with("--") || arg.size() == 2) {
      Add(at, fmt::format("{} is not a flag", Quoted(arg)), "write --name=value");
      return;
    }
    const size_t equals = arg.find('=');
    const std::string name = arg.substr(2, equals == std::string::npos ? equals : equals - 2);
    const Flag* flag = FindFlag(module_, name);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = arg.substr(equals + 1);
    if (!value) value = NextValue(flag);
    if (flag == nullptr) {
      AddUnknown(at, name);
    } else if (!value) {
      Add(at, fmt::format("--{} has no value", name), fmt::format("write --{}=value", name));
    } else if (Wrong wrong; !Fits(*flag, *value, &wrong)) {
      Add(at, fmt::format("--{}: {}", name, wrong.what), wrong.write);
    } else if (!parsed_.given.emplace(name, at).second) {
      Add(at, fmt::format("--{} is repeated", name), "keep one of them");
    } else {
      parsed_.values[name] = *value;
    }
  }

  // The argument after the flag, taken when it can be its value.
  std::optional<std::string> NextValue(const Flag* flag) {
    const bool is_bool = flag != nullptr && flag->type == Flag::Type::kBool;
    const bool has_next = next_ < args_.size() && !args_[next_].starts_with("--");
    Wrong unused;
    if (has_next && (!is_bool || ParseBool(args_[next_], &unused))) return args_[next_++];
    if (is_bool) return "true";
    return std::nullopt;
  }

  void AddUnknown(size_t at, const std::string& name) {
    std::vector<std::string> names;
    for (const Flag& flag : module_.flags) names.push_back("--" + flag.name);
    Add(at, fmt::format("{} has no flag {}", module_.name, Quoted("--" + name)),
        WriteNearest("--" + name, names));
  }

  const ModuleType& module_;
  const std::span<const std::string> args_;
  size_t next_ = 0;
  ParsedFlags parsed_;
};

}  // namespace

ParsedFlags ParseModuleFlags(const ModuleType& module, std::span<const std::string> args) {
  return FlagParser(module, args).Run();
}

absl::StatusOr<FlagValues> ParseFlags(const ModuleType& module, std::span<const std::string> args,
                                      std::vector<std::string>* given) {
  ParsedFlags parsed = ParseModuleFlags(module, args);
  if (!parsed.problems.empty()) {
    std::vector<std::string> lines;
    for (const FlagProblem& p : parsed.problems) lines.push_back(p.what + "; " + p.write);
    return absl::InvalidArgumentError(fmt::format("{}", fmt::join(lines, "\n")));
  }
  if (given != nullptr) {
    for (const auto& [name, arg] : parsed.given) given->push_back(name);
  }
  return std::move(parsed.values);
}

std::vector<std::string> FoldersOf(const ModuleType& module, const FlagValues& values) {
  std::vector<std::string> folders;
  for (const Flag& flag : module.flags) {
    if (flag.type != Flag::Type::kFolder) continue;
    const std::string& value = values.at(flag.name);
    if (!value.empty() && std::ranges::count(folders, value) == 0) folders.push_back(value);
  }
  return folders;
}

}  // namespace muster::worker
