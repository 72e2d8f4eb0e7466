// PlayedCloud: a cloud for tests, with a machine behind each instance (tests/e2e/fake_machines.py).
// A program answers the provider's real command line, and below /_ the test itself; see its head.
//
// Needs root, iproute2, util-linux and openssh. Owned by the test's thread; everything is gone with
// the object.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/programs.h"

namespace muster::e2e {

class PlayedCloud {
 public:
  PlayedCloud(const PlayedCloud&) = delete;
  PlayedCloud& operator=(const PlayedCloud&) = delete;

  // Why there is none; "" when it answers.
  const std::string& problem() const { return problem_; }

  // The cloud's names of the instances that have a machine.
  std::vector<std::string> Machines() const;
  // Those that are spot.
  std::vector<std::string> SpotMachines() const;
  // The actions that were asked for since this was last called.
  std::vector<std::string> Asked() const;
  // What is to go wrong from now on: a list in JSON.
  void SetFaults(const std::string& json) const;
  // The cloud takes a machine back: so many seconds after it has given notice (to one that is
  // spot), or (none) at once and without a word.
  void TakeBack(const std::string& machine, std::optional<int> notice_s) const;
  // A machine dies without a word.
  void Kill(const std::string& machine) const;
  // How much faster than they say machines' deadlines come.
  void SetSpeed(int times) const;
  // The same for what a machine's first script sleeps.
  void SetSleepSpeed(int times) const;

 protected:
  // Plays it with `program`. `needs`: commands that succeed where it can, `names` for the user.
  PlayedCloud(std::string folder, const std::string& program, const std::string& needs,
              const std::string& names);
  ~PlayedCloud();

  const std::string& folder() const { return folder_; }
  int port() const { return port_; }
  // The line with which the program has said that it answers; "" when there is a problem.
  const std::string& said() const { return said_; }
  std::string Ask(const std::string& path, const std::string& body = "") const;
  std::vector<std::string> LinesOf(const std::string& path) const;

 private:
  const std::string folder_;
  std::string problem_, said_;
  int port_ = 0;
  std::unique_ptr<Running> server_;
};

}  // namespace muster::e2e
