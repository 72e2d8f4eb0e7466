// Engine: a speech synthesiser.
//
// Owned by one thread. Speak may keep state between calls, so that a clip is a function of the
// clips spoken before it in this process: Make gives every block of clips a fresh copy of a process
// in which nothing has been spoken.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "telemetry/status.h"
#include "worker/modules/speech_commands/maker/plan.h"

namespace muster::worker {

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string name() const = 0;
  virtual std::vector<Voice> voices() const = 0;
  // The word alone, spoken by the plan's voice, pitch, range and speed, at 16 kHz, in [−1, 1].
  virtual absl::StatusOr<std::vector<float>> Speak(const ClipPlan& plan) = 0;
};

// espeak-ng, in this process; one at a time. `share`: the folder that holds espeak-ng-data, at most
// 140 characters; "": the system's. Fails when its data is not there.
absl::StatusOr<std::unique_ptr<Engine>> MakeEspeakEngine(const std::string& share);

// The program `flite`, run once per clip; `scratch` is a file that it may write. Fails when the
// program is not installed.
absl::StatusOr<std::unique_ptr<Engine>> MakeFliteEngine(std::string scratch);

}  // namespace muster::worker
