// report.html: one self-contained page about a run: curves, throughput, step split, confusion
// matrix, plan, cost and how it ended.
//
// A pure function, thread-safe. The page needs no network: inline style, SVG and a few lines of
// script. All text is escaped.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "master/history.h"
#include "master/job_state.h"

namespace muster::master {

// One line of the plan: a role, how many, on what.
struct PlanRow {
  std::string role;  // "master", "worker", "parameter server"
  int count = 0;
  std::string machine_type;     // "complex_model_m"; may be empty
  std::string detail;           // "16 vCPU, 14.4 GB"
  double dollars_per_hour = 0;  // of all `count`; 0: not known
};

struct ReportInput {
  std::string title;  // the job's id
  JobState state;
  RunHistory history;
  std::vector<PlanRow> plan;
  std::vector<std::pair<std::string, std::string>>
      settings;  // "module" → "speech_commands", "consistency" → "BSP" …
  std::vector<std::pair<std::string, std::string>> substitutions;  // field → what is done instead
  bool trace = false;  // trace.json lies beside the report
};

std::string RenderReport(const ReportInput& input);

}  // namespace muster::master
