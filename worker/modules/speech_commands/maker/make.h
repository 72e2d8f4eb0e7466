// Make: writes a data set in the layout of the Speech Commands archive.
//
// Called by one thread of a process that has no other (it forks). Invariants:
//   1. Clip i is a function of (engine, seed, words, i): each block of clips is spoken by a fresh
//      copy of this process.
//   2. So the first N clips of a set of 2N are the set of N.
//   3. A file under its own name is whole. A run that was killed is completed by the same command;
//      files that are there stay.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "telemetry/status.h"
#include "worker/modules/speech_commands/maker/engine.h"
#include "worker/modules/speech_commands/maker/plan.h"

namespace muster::worker {

struct MakeSettings {
  std::string out;
  int64_t clips = 8000;
  PlanSettings plan;
  int processes = 1;
  int noise_seconds = 30;  // of each kind
};

// Called with the clips that exist so far, at least after each block.
using MakeProgress = std::function<void(int64_t done, int64_t all)>;

// Fails when `out` cannot be written; with kFailedPrecondition when it holds another set: of
// another engine, seed or words, or not made here at all.
absl::Status Make(Engine& engine, const MakeSettings& settings, const MakeProgress& progress);

}  // namespace muster::worker
