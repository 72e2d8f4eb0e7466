// Reading and writing of WAV files: mono 16-bit PCM, the format of the Speech Commands archive.
//
// Pure functions: thread-safe. Every way in which a file can be wrong has its own message, which
// begins with the path and says what was found.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::worker {

// Reads at most `max_samples` samples from the beginning of `path` into `samples` (replaced). Fails
// when the file cannot be opened, is not a WAV file, is cut short (header or samples), holds no
// sample, or is anything but mono 16-bit PCM at `sample_rate` Hz.
absl::Status ReadWav(const std::string& path, int sample_rate, int64_t max_samples,
                     std::vector<int16_t>& samples);

// The verdict of ReadWav without reading the samples.
absl::Status CheckWav(const std::string& path, int sample_rate);

// Writes a WAV file whole or not at all: to `path` + ".part", then renamed. Fails when the disk
// does not take it.
absl::Status WriteWav(const std::string& path, int sample_rate, std::span<const int16_t> samples);

}  // namespace muster::worker
