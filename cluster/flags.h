// The command line of `launch`: gcloud's names for the fields of a job, and Muster's few own flags.
// Free functions: thread-safe.
//
// Which flags there are stands in flag_table.h; they override the file.
#pragma once

#include <string>
#include <vector>

#include "configs/job_yaml.h"

namespace muster::cluster {

struct GivenFlag {
  std::string name;  // "--worker-count"
  std::string text;
};

struct LaunchFlags {
  std::string config;             // --config; "" when absent
  bool check = false;             // --check
  bool dry_run = false;           // --dry-run: only print the commands that would be run
  bool yes = false;               // --yes: nobody need be asked before machines are rented
  bool async = false;             // --async: leave the job once it trains
  bool wrong = false;             // the words made no sense; the rest is not to be trusted
  bool help = false;              // --help
  std::vector<GivenFlag> given;   // flags that set fields, in the table's order
  bool has_args = false;          // there was a `--`
  std::vector<std::string> args;  // what followed it: the module's own flags
};

// Reads the words after the program's name. Unknown and repeated flags and missing values become
// problems.
LaunchFlags ParseLaunchFlags(const std::vector<std::string>& words, Problems* problems);

// Sets the job's fields from the flags.
void ApplyLaunchFlags(const LaunchFlags& flags, JobDraft* draft);

// What `launch --help` prints.
std::string LaunchHelp();

}  // namespace muster::cluster
