// LeaveNotice: the wish that a worker leave its job, from outside of the role: SIGTERM to its
// process, which is how machines say that they are about to be taken away.
//
// Thread-safe. Owned by whoever runs the role.
#pragma once

#include <functional>
#include <utility>

#include "telemetry/mutex.h"

namespace muster::master {

class LeaveNotice {
 public:
  // Asks the role to leave; false when it has no master to ask.
  bool Give() {
    MutexLock lock(mu_);
    if (ask_) ask_();
    return ask_ != nullptr;
  }
  // `ask` is called, on the giver's thread, for each notice; null: no more, and none is in work.
  void Listen(std::function<void()> ask) {
    MutexLock lock(mu_);
    ask_ = std::move(ask);
  }

 private:
  Mutex mu_;
  std::function<void()> ask_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::master
