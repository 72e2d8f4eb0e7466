// The commands of `launch`: a table that main() builds, and the choice among them. Free functions:
// thread-safe.
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "cluster/flags.h"
#include "cluster/plan.h"
#include "cluster/resolve.h"

namespace muster::cluster {

// Exit codes of every command.
inline constexpr int kSucceeded = 0;
inline constexpr int kJobFailed = 1;
inline constexpr int kWrongInput = 2;
inline constexpr int kFailed = 1;
inline constexpr int kInterrupted = 130;

struct CommandContext {
  std::vector<std::string> words;  // after the program's (and the command's) name
  std::FILE* out = stdout;
  std::FILE* err = stderr;
  ResolveOptions resolve;
  // Brings those of the folders that lie in object stores to this machine; null: nobody does.
  std::function<absl::Status(const std::vector<std::string>& data)> bring_data = nullptr;
  // Has the plan reckon with the provider's own prices; null: nobody asks for them.
  std::function<void(const Job&, const LaunchFlags&, Plan*)> price_plan = nullptr;
};

struct Command {
  std::string name;  // "predict"; "" is the command that runs when the first word names none
  std::string help;  // one line
  std::function<int(const CommandContext&)> run;  // returns the exit code
};

// Runs the command that the first word names. `--help` alone and an unknown command list them all.
int RunCommand(const std::vector<Command>& commands, const CommandContext& context);

// Runs a resolved job to its end; returns the exit code.
using RunJob = std::function<int(const ResolvedJob&, const Plan&, const LaunchFlags&)>;

// The command without a name: reads file and flags, reports every problem on `err` (exit code 2),
// prints the plan to `out` and, unless
// --check is given, hands the job to `run`.
int RunTrain(const CommandContext& context, const RunJob& run);

}  // namespace muster::cluster
