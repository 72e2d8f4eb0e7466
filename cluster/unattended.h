// Unattended: what becomes of the roles of one host while no launcher is connected to it.
//
//   to stay:     they go on until the job ends by itself, until its running time is over (the
//                master is asked to finish the step, save a checkpoint and stop all), or until a
//                time by which nothing of it can be left; where one of them ends, the others have a
//                while to follow, as they do when the master has ended the job
//   not to stay: they end at once
//
// A pure state machine: time is passed in. Owned by one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace muster::cluster {

class Unattended {
 public:
  struct Options {
    int64_t max_running_ms = 0;    // from RUNNING on
    int64_t patience_ms = 10'000;  // between the first end of a role and that of the others
    int64_t drain_ms = 120'000;    // for the checkpoint after the running time is over
    int64_t terminate_ms = 2'000;  // between SIGINT and SIGKILL
    int64_t around_ms = 900'000;   // of max_running_ms: for what comes before and after training
  };
  enum class Action { kInterruptMaster, kTerminateAll, kKillAll };

  Unattended(Options options, bool stay, int64_t now_ms)
      : options_(options), stay_(stay), opened_ms_(now_ms) {}

  void Stay() { stay_ = true; }
  void OnRunning(int64_t now_ms);    // the master says so; others never hear of it
  void OnEnd(int64_t now_ms);        // a role has ended
  void OnInterrupt(int64_t now_ms);  // somebody has told the master to end
  void OnLauncher(bool connected) { connected_ = connected; }
  // SIGTERM to the keeper: as a launcher's Ctrl-C.
  void OnTerminate() { asked_ = true; }

  // What is to be done now; each is told once.
  std::optional<Action> Tick(int64_t now_ms);
  // Whether it was this that ended the job.
  bool time_is_over() const { return time_is_over_; }

 private:
  enum class Phase { kGoing, kDraining, kTerminating, kKilling };
  std::optional<Action> Enter(Phase phase, int64_t deadline_ms, Action action);

  const Options options_;
  bool stay_, connected_ = true, asked_ = false, time_is_over_ = false;
  const int64_t opened_ms_;
  std::optional<int64_t> running_ms_, ended_ms_;
  Phase phase_ = Phase::kGoing;
  int64_t deadline_ms_ = 0;  // of the phase
};

}  // namespace muster::cluster
