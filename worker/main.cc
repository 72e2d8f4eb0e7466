// The program `worker`: a trainer in a process of its own, for a worker or for the chief. Started
// by `launch`.
//
// SIGTERM while the worker trains: it asks the master to let it leave the job, which goes on
// without it; again, or at any other time: the process ends at once, as by any other signal.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "cluster/lifeline.h"
#include "master/leave_notice.h"
#include "master/role_main.h"

namespace {

using muster::master::LeaveNotice;

// On a thread of its own, for good. Before any other thread: they all have to block the signal.
void TakeTerminations(const std::shared_ptr<LeaveNotice>& leave) {
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &terminate, nullptr);
  std::thread([terminate, leave] {
    int signal = 0;
    (void)sigwait(&terminate, &signal);
    if (leave->Give()) (void)sigwait(&terminate, &signal);
    pthread_sigmask(SIG_UNBLOCK, &terminate, nullptr);
    (void)raise(SIGTERM);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  const auto leave = std::make_shared<LeaveNotice>();
  TakeTerminations(leave);
  using muster::cluster::kLifelineVariable;
  const absl::Status lifeline = muster::cluster::StartLifeline(std::getenv(kLifelineVariable));
  if (!lifeline.ok()) {
    std::fprintf(stderr, "%s\n", lifeline.ToString().c_str());
    return 2;
  }
  return muster::master::RunRoleProgram(argc, argv, muster::master::RunTrainerRole, leave.get());
}
