#include "cluster/stopped_machines.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kStopMs = 300'000, kFirstLookMs = 500, kMaxLookMs = 5'000;

}  // namespace

absl::Status StopMachines(Provider& provider, MachineJournal& journal, const std::string& disks,
                          const Patience& patience) {
  const int64_t began = patience.now_ms();
  const std::string& job = journal.head().job_id;
  // Before: gc deletes the disks of what nobody has said to keep.
  RETURN_IF_ERROR(journal.Stopping(began, disks));
  absl::Status last;
  for (int64_t pause = kFirstLookMs; patience.now_ms() - began <= kStopMs;
       pause = std::min(pause * 2, kMaxLookMs)) {
    last = provider.Stop(job);
    if (absl::IsFailedPrecondition(last) || absl::IsPermissionDenied(last)) break;
    if (last.ok()) {
      const auto machines = provider.List(job);
      last = machines.status();
      const bool run = machines.ok() && std::ranges::any_of(*machines, [](const Machine& machine) {
                         return machine.state == MachineState::kRunning ||
                                machine.state == MachineState::kPending;
                       });
      if (machines.ok() && !run) return absl::OkStatus();
    }
    (void)patience.pause(pause);
  }
  return absl::UnavailableError(fmt::format("the machines of job {} do not stop{}{}", job,
                                            last.ok() ? "" : ": ", std::string(last.message())));
}

std::string StoppedText(const MachineJournal& journal) {
  return fmt::format(
      "its machines are stopped since {} and their disks cost: {}; launch gc --stopped {} deletes "
      "them",
      FormatTime(journal.stopped_ms()), journal.disks(), journal.head().job_id);
}

}  // namespace muster::cluster
