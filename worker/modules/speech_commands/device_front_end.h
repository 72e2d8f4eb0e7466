// SpeechFrontEnd: the features of a SpeechDataset's samples, made on a device.
//
// A sample's record says which clip it is, how far that is moved, and what noise lies over it, all
// drawn on the host: 32 bytes. The device keeps noise and clips as 16-bit samples (or gets a clip
// behind its record), and computes, by the formulas of features.h,
//
//   frames [n · frames, window], without the window function, which is part of the filters
//   spectrum = frames · filtersᵀ [n · frames, 2 · bins]
//   log_mel [n · frames, mel_channels]
//   coefficients = log_mel · dctᵀ [n · frames, coefficients]
//
// in float32, also where the device's models round more. Frames are the same as on the host, bit
// for bit; a transform by products rounds as much as the host's fast one, in another order.
#pragma once

#include <cstdint>
#include <memory>

#include "telemetry/status.h"
#include "worker/dataset.h"

namespace muster::worker {

class SpeechDataset;

// Reads all clips when the device `keeps` them. Borrows data set and device. Fails when a clip can
// neither be read nor be replaced; with ResourceExhausted when there is no memory for the clips.
absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> MakeSpeechFrontEnd(const SpeechDataset& data,
                                                                   Device& device,
                                                                   int64_t max_batch, bool keeps);

}  // namespace muster::worker
