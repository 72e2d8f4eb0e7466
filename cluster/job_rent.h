// JobRent: what the machines of a job cost while a launcher follows it: the bill of the run, and
// bill.json of the job's directory beside it.
//
// Owned by the launcher's main thread. A bill.json that cannot be written ends nothing: a line for
// the user. The bill's clock is MonotonicMillis's, bill.json's is Unix time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/bill.h"
#include "cluster/bill_record.h"
#include "cluster/left_machines.h"
#include "cluster/node_set.h"
#include "cluster/provider.h"

namespace muster::cluster {

class JobRent {
 public:
  struct Options {
    std::string job_dir;
    bool billed = true;                 // else nothing costs, and there is no bill.json
    double max_cost = 0;                // cluster.budget.maxCost
    std::function<double(Role)> price;  // by the plan, US dollars per hour; 0: not known
    Say say;                            // warnings
  };
  explicit JobRent(Options options);

  const std::shared_ptr<Rent>& rent() const { return rent_; }

  // These began at `began_ms` of MonotonicMillis. Returns their numbers in the bill.
  std::vector<size_t> Begin(const std::vector<Machine>& machines, int64_t began_ms);
  // The same for those of a job that was left, which have cost something already, as `spans` say.
  std::vector<size_t> Resume(const LeftMachines& left, const std::vector<RentedSpan>& spans);
  // In bill.json: the bill itself is the steward's to keep.
  void NoteLost(const Machine& machine) const;
  void NoteReplaced(const Machine& lost, const Machine& by) const;
  void NoteGivenBack() const;

 private:
  RentedSpan SpanOf(const Machine& machine, int64_t began_ms) const;
  double PriceOf(Role role) const { return options_.billed ? options_.price(role) : 0; }
  void Warn(const absl::Status& status) const;

  const Options options_;
  const std::shared_ptr<Rent> rent_ = std::make_shared<Rent>();
};

}  // namespace muster::cluster
