#include "cluster/flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "cluster/flag_table.h"
#include "configs/nearest.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

std::vector<std::string> AllNames() {
  std::vector<std::string> names = {"--config", "--check", "--dry-run",
                                    "--yes",    "--async", "--help"};
  for (const FlagRow& row : FlagTable()) names.push_back(row.name);
  return names;
}

// CLI11's reading of the words, every value as text.
struct Words {
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::string> config, unknown;
  bool check = false, dry_run = false, yes = false, async = false, help = false;
};

void AddOptions(CLI::App& app, Words* words) {
  app.allow_extras();
  app.set_help_flag();
  app.add_option("--config", words->config)->allow_extra_args(false);
  app.add_flag("--check", words->check);
  app.add_flag("--dry-run", words->dry_run);
  app.add_flag("--yes,-y", words->yes);
  app.add_flag("--async", words->async);
  app.add_flag("-h,--help", words->help);
  for (const FlagRow& row : FlagTable()) {
    CLI::Option* option = app.add_option(row.name, words->values[row.name]);
    TakesValue(row.form) ? option->allow_extra_args(false) : option->expected(0, 1);
  }
}

// Words that no flag took: unknown flags, their values, and stray text.
void ReportUnknown(const std::vector<std::string>& unknown, Problems* problems) {
  bool after_flag = false;
  for (const std::string& word : unknown) {
    const bool is_flag = word.starts_with('-');
    const std::string name = word.substr(0, word.find('='));
    if (is_flag) {
      const std::string nearest = Nearest(name, AllNames());
      problems->Add({name}, "", "unknown flag",
                    nearest.empty() ? "see launch --help; the module's own flags stand after `--`"
                                    : fmt::format("write {}", nearest));
    } else if (!after_flag) {
      problems->Add({"command line"}, "", fmt::format("{} belongs to no flag", Quoted(word)),
                    "see launch --help; the module's own flags stand after `--`");
    }
    after_flag = is_flag && word.find('=') == std::string::npos;
  }
}

void TakeValues(const Words& words, LaunchFlags* flags, Problems* problems) {
  if (words.config.size() > 1) problems->Add({"--config"}, "", "given twice", "keep one of them");
  if (!words.config.empty()) flags->config = words.config[0];
  flags->check = words.check;
  flags->dry_run = words.dry_run;
  flags->yes = words.yes;
  flags->async = words.async;
  flags->help = words.help;
  for (const FlagRow& row : FlagTable()) {
    const std::vector<std::string>& texts = words.values.at(row.name);
    if (texts.size() > 1 && row.form != Form::kAssignment) {
      problems->Add({row.name}, "", "given twice", "keep one of them");
    }
    for (const std::string& text : texts) flags->given.push_back({row.name, text});
  }
}

}  // namespace

LaunchFlags ParseLaunchFlags(const std::vector<std::string>& all_words, Problems* problems) {
  LaunchFlags flags;
  const auto dashes = std::find(all_words.begin(), all_words.end(), "--");
  flags.has_args = dashes != all_words.end();
  if (flags.has_args) flags.args.assign(dashes + 1, all_words.end());

  Words words;
  CLI::App app;
  AddOptions(app, &words);
  std::vector<std::string> reversed(all_words.begin(), dashes);
  std::reverse(reversed.begin(), reversed.end());  // CLI11 takes the words from the back
  try {
    app.parse(reversed);
  } catch (const CLI::Error& e) {
    const std::string what = e.what();
    const size_t colon = what.find(':');
    problems->Add({colon == std::string::npos ? "command line" : what.substr(0, colon)}, "",
                  colon == std::string::npos ? what : "no value", "write one after it");
    flags.wrong = true;
    return flags;
  }
  ReportUnknown(app.remaining(), problems);
  TakeValues(words, &flags, problems);
  return flags;
}

std::string LaunchHelp() {
  std::string help =
      "launch [--config FILE] [--check] [flags] [-- the module's flags]\n\n"
      "Trains the job that FILE (docs/job-file.md) and the flags describe; flags override the "
      "file.\n\n";
  const auto line = [&](const std::string& name, const std::string& text) {
    help += text.empty() ? fmt::format("  {}\n", name) : fmt::format("  {:<46} {}\n", name, text);
  };
  line("--config FILE", "the job file");
  line("--check", "print the plan, start nothing");
  line("--dry-run", "print the plan and the commands that rent machines, ask and start nothing");
  line("--yes", "rent what the plan says without asking");
  line("--async", "leave once the job trains: launch attach follows it again");
  for (const FlagRow& row : FlagTable()) {
    line(row.value[0] == '\0' ? row.name : fmt::format("{} {}", row.name, row.value), row.help);
  }
  return help;
}

}  // namespace muster::cluster
