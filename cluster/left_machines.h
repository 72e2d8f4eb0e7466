// What is left of the machines of a job that was left to go on: which of them run, which role has
// lost its own, and which were replaced and run all the same.
//
// Values and pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/bill_record.h"
#include "cluster/local.h"
#include "cluster/provider.h"

namespace muster::cluster {

struct LeftMachines {
  // By host, as PlaceRoles numbers them. One that is gone has state kGone, the id that bill.json
  // has of it, or "", and its master's place.
  std::vector<Machine> by_host;
  std::vector<Machine> superseded;  // they run, and a newer one of their role and index does, too
  bool has_master = false;
  bool others_are_workers = true;  // none but workers' is gone
  size_t running = 0;              // of by_host
  int last_attempt = 0;            // of all that are listed
  int64_t began_ms = 0;            // when the run did, by bill.json (Unix time); 0: not known
};

// `listed`: by the provider. `spans`: of bill.json, where there is one. `roles`: of the job.
LeftMachines FindLeftMachines(const std::vector<Machine>& listed,
                              const std::vector<RentedSpan>& spans,
                              const std::vector<LocalRole>& roles);

// Of these, the spans of the last run: since its master's machine began. Where no master has a
// span, those that have not ended.
std::vector<RentedSpan> SpansOfLastRun(const std::vector<RentedSpan>& spans);

}  // namespace muster::cluster
