// NodeSet: a job's machines from a provider, all of them or none: tries one place after the other,
// and gives back whatever it has asked for, on every way out.
//
// Owned by the launcher's main thread; borrows what it is given.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/journal.h"
#include "cluster/provider.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Time, as the launcher has it or a test plays it.
struct Patience {
  std::function<int64_t()> now_ms;  // Unix time
  // Waits so long; false when the user has interrupted.
  std::function<bool(int64_t ms)> pause;
};

// Time as it is, for whoever has nobody who may interrupt.
Patience RealPatience();

// A line for the user.
using Say = std::function<void(const std::string& line)>;

struct NodeSetOptions {
  MachineOrder order;       // place and attempt are filled in
  int64_t max_wait_ms = 0;  // until all machines run; five minutes of it in each place
};

class NodeSet {
 public:
  NodeSet(Provider& provider, MachineJournal& journal, const Patience& patience, Say say)
      : provider_(provider), journal_(journal), patience_(patience), say_(std::move(say)) {}
  // Gives back what Create has asked for, unless that was done or Leave was called.
  ~NodeSet();
  NodeSet(const NodeSet&) = delete;
  NodeSet& operator=(const NodeSet&) = delete;

  // All machines, running, those of the master first, by index within a role; none when the user
  // interrupted. Fails, with nothing left, when no place has them (each refusal is told as it
  // comes) or something will not do anywhere.
  absl::StatusOr<std::vector<Machine>> Create(NodeSetOptions options);
  // One machine more, in the region of order.place: tries its zones, and ends what it has asked for
  // when it fails, with the last refusal. PRECONDITION: one group of one machine; order.attempt and
  // as many above it as there are zones were never used.
  absl::StatusOr<Machine> CreateOne(MachineOrder order, int64_t max_wait_ms);
  // As the function below; once.
  absl::Status GiveBack();
  // Somebody else answers for the machines now.
  void Leave() { asked_ = false; }

 private:
  // Asks for what is ordered, and waits until it runs. `end` gives back what came of it when it
  // does not; empty when interrupted.
  absl::StatusOr<std::vector<Machine>> TryPlace(const MachineOrder& order, int64_t deadline_ms,
                                                const std::function<absl::Status()>& end);
  // Ends what carries the order's attempt, and looks until nothing is left.
  absl::Status EndAttempt(const MachineOrder& order);
  absl::StatusOr<std::vector<Machine>> AwaitRunning(const MachineOrder& order, int64_t deadline_ms);

  Provider& provider_;
  MachineJournal& journal_;
  const Patience& patience_;
  const Say say_;
  bool asked_ = false;
};

// Whether the journal's job was left to go on and something of it still runs, so that its machines
// are nobody's to take. Fails when the provider does not say.
absl::StatusOr<bool> IsLeft(Provider& provider, const MachineJournal& journal, int64_t now_ms);
// What to do with such a job, in one line.
std::string LeftText(const MachineJournal& journal);

// Ends all that a job has with the provider, and looks until nothing is left. What was asked for a
// moment before (`asked_ms`, of patience's clock; 0: nothing was) may not be listed yet, so it
// looks again until that has had time to appear. Fails when something is left after two minutes,
// with the command that shows it.
absl::Status EndMachines(Provider& provider, const std::string& job, int64_t asked_ms,
                         const Patience& patience);

// The same for the journal's job; then closes the journal, which stays where something is left.
absl::Status GiveBackMachines(Provider& provider, MachineJournal& journal,
                              const Patience& patience);

}  // namespace muster::cluster
