#include "cluster/command.h"

#include <fmt/format.h>

#include "cluster/flags.h"
#include "configs/nearest.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

const Command* Find(const std::vector<Command>& commands, const std::string& name) {
  for (const Command& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

void PrintHelp(const std::vector<Command>& commands, std::FILE* out) {
  fmt::print(out, "{}", LaunchHelp());
  for (const Command& command : commands) {
    if (!command.name.empty()) fmt::print(out, "\nlaunch {}: {}\n", command.name, command.help);
  }
}

}  // namespace

int RunCommand(const std::vector<Command>& commands, const CommandContext& context) {
  const std::vector<std::string>& words = context.words;
  const bool named = !words.empty() && !words[0].starts_with('-');
  if (!named) {
    if (words.empty() || words[0] == "--help" || words[0] == "-h") {
      PrintHelp(commands, words.empty() ? context.err : context.out);
      return words.empty() ? kWrongInput : kSucceeded;
    }
    return Find(commands, "")->run(context);
  }
  const Command* command = Find(commands, words[0]);
  if (command == nullptr) {
    std::vector<std::string> names;
    for (const Command& c : commands) {
      if (!c.name.empty()) names.push_back(c.name);
    }
    fmt::print(context.err, "launch has no command {}; {}\n", Quoted(words[0]),
               words[0].ends_with(".yaml") || names.empty() ? "write launch --config FILE"
                                                            : WriteNearest(words[0], names));
    return kWrongInput;
  }
  CommandContext inner = context;
  inner.words.erase(inner.words.begin());
  return command->run(inner);
}

int RunTrain(const CommandContext& context, const RunJob& run) {
  JobDraft draft;
  const LaunchFlags flags = ParseLaunchFlags(context.words, &draft.problems);
  if (flags.help) {
    fmt::print(context.out, "{}", LaunchHelp());
    return kSucceeded;
  }
  const bool readable = !flags.wrong && (flags.config.empty() || ReadJobFile(flags.config, &draft));
  if (readable) ApplyLaunchFlags(flags, &draft);
  std::optional<ResolvedJob> resolved;
  if (readable) resolved = ResolveJob(context.resolve, &draft);
  if (!resolved) {
    fmt::print(context.err, "{}", draft.problems.Text());
    return kWrongInput;
  }
  Plan plan = MakePlan(resolved->job, context.resolve.catalog);
  if (context.price_plan) context.price_plan(resolved->job, flags, &plan);
  fmt::print(context.out, "{}", FormatPlan(*resolved, plan));
  std::fflush(context.out);
  return flags.check ? kSucceeded : run(*resolved, plan, flags);
}

}  // namespace muster::cluster
