// The program `launch`. See docs/job-file.md, and `launch --help`.
#include "cluster/command.h"

int main(int argc, char** argv) {
  using namespace muster::cluster;
  const RunJob run = [](const ResolvedJob&, const Plan&) {
    std::fputs("launch: this build checks jobs and cannot run them; add --check\n", stderr);
    return kJobFailed;
  };
  const std::vector<Command> commands = {
      {"", "train a job", [&](const CommandContext& context) { return RunTrain(context, run); }},
  };
  CommandContext context;
  context.words.assign(argv + 1, argv + argc);
  context.resolve.now = std::chrono::system_clock::now();
  return RunCommand(commands, context);
}
