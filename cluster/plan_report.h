// What of a job's plan the report shows: one row per role, the settings that matter, and what is
// done instead of what the file asks.
//
// A pure function of the resolved job: thread-safe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "configs/job.pb.h"
#include "master/report.h"

namespace muster::cluster {

struct PlanReport {
  std::vector<master::PlanRow> rows;
  std::vector<std::pair<std::string, std::string>> settings, substitutions;
  double dollars_per_hour = 0;  // by the catalogue; 0: not known
};

// PRECONDITION: `job` is resolved.
PlanReport MakePlanReport(const Job& job);

}  // namespace muster::cluster
