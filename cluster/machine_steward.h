// MachineSteward: looks after the rented machines of a run: has the bill follow spot prices, and
// replaces workers' machines that are lost.
//
// Of a machine that is silent the provider is asked first:
//
//   it runs ──▶ told to be reached again; after five minutes of silence it is ended, and replaced
//   it is gone, or about to ──▶ another one is asked for, in the zones of the job's region; where
//                               none is to be had, again in five minutes; where the job ends before
//                               one could help, not at all; one that will not do is ended
//
// All that takes time happens in processes beside the launcher, one for each machine. Owned by the
// launcher's main thread; borrows what its options refer to.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bill.h"
#include "cluster/host_steward.h"
#include "cluster/journal.h"
#include "cluster/node_set.h"
#include "cluster/provider.h"
#include "cluster/side_task.h"
#include "cluster/spot_bill.h"

namespace muster::cluster {

class MachineSteward : public HostSteward {
 public:
  struct Options {
    Provider& provider;
    bool checked = true;  // the provider knows its places; else Check finds them when need be
    MachineJournal& journal;
    const Patience& patience;
    MachineOrder order;          // of all machines; its lifetime counts from now on
    int64_t max_running_ms = 0;  // of the job, from now on at least; 0: no limit
    std::vector<int> keep;       // descriptors that `patience` needs in another process
    std::shared_ptr<Rent> rent;
    std::function<double(Role)> price;  // by the plan
    // The way to a machine that runs.
    std::function<absl::StatusOr<RunHost>(const Machine&)> reach;
    // Makes sure that a machine in another's place will do, as the first ones were; in a process of
    // its own, which tells the user by `say`. FailedPrecondition where another one would not do,
    // either. May be null.
    std::function<absl::Status(const Machine& machine, const Say& say)> prepare = nullptr;
    // Told of a machine that is gone, and of one in another's place; may be null.
    std::function<void(const Machine& lost)> on_lost = nullptr;
    std::function<void(const Machine& lost, const Machine& by)> on_replaced = nullptr;
    int64_t again_ms = 300'000;    // until no place is asked again
    int64_t silence_ms = 300'000;  // of a machine that runs, after which it is given up
    int64_t help_ms = 300'000;     // before the job's end, another machine does not help any more
  };
  // `machines`: the hosts, in order; one without an id is known to be gone. `bills`: their numbers
  // in the bill.
  MachineSteward(Options options, std::vector<Machine> machines, std::vector<size_t> bills);

  void Watch(std::vector<pollfd>* fds) const override;
  void Tick() override;
  bool Replaces(size_t host) const override;
  void Replace(size_t host, bool ends) override;
  void Missed(size_t host) override { missed_.insert(host); }
  bool IsAsking() const override;
  void Reached(size_t host) override { searches_.erase(host); }
  std::vector<std::pair<size_t, RunHost>> TakeFound() override { return std::exchange(found_, {}); }
  std::vector<std::string> TakeMessages() override { return std::exchange(messages_, {}); }
  // For a job that has ended: looks for hosts that were missed, and for others that do not run as
  // the provider says, and replaces those that are gone, whatever their role, as long as that
  // helps. Blocks, telling the user by `say`. False when nothing was lost, or not all are there
  // again.
  bool Recover(const std::function<void(const std::string& line)>& say);
  // As they are now.
  const std::vector<Machine>& machines() const { return machines_; }
  // Stops whatever goes on. What was asked for shortly before may still come.
  void Stop();

 private:
  struct Search {
    bool ends = false;     // it is known that the machine goes
    int64_t begun_ms = 0;  // when it was missed
    int64_t next_ms = 0;   // when to look (again)
    std::unique_ptr<SideTask> task;
    bool answered = false;  // by the task
    bool told = false;      // that it is tried again
    bool lost = false;      // the machine is gone
  };

  const MachineGroup* GroupOf(Role role) const;
  std::string NameOf(size_t host) const;
  // When the job ends at the latest, by its budget or its running time; kNever.
  int64_t EndsBy(int64_t now_ms) const;
  void FollowPrice(size_t host);
  void Begin(size_t host, Search& search);
  void TakeLine(size_t host, Search& search, const std::string& line);
  void Lost(size_t host, Search& search, const std::string& reason, bool given_up);
  void Found(size_t host, const Machine& machine);
  // It can be used.
  void Ready(size_t host, Search& search);
  // It was ended, since it will not do.
  void Ended(size_t host);

  const Options options_;
  const int64_t began_ms_;
  std::vector<Machine> machines_;
  std::vector<size_t> bills_;  // by host: its number in the bill
  SpotBill prices_;
  std::map<size_t, Search> searches_;
  int next_attempt_ = 0;
  std::vector<std::pair<size_t, RunHost>> found_;
  std::vector<std::string> messages_;
  std::set<size_t> missed_;  // hosts
};

}  // namespace muster::cluster
