// Which split a clip belongs to: by a hash of its speaker, as TensorFlow's speech_commands decides,
// so that its archive splits the same way here and no voice is in two splits.
//
// Pure functions: thread-safe.
#pragma once

#include <string_view>

#include "worker/module.h"

namespace muster::worker {

// What stands before the first "_nohash_" of the file name; the whole name where there is none.
std::string_view Speaker(std::string_view file_name);

// The split of a file name (without folders). Percentages of the hash range: validation first, then
// testing, training the rest.
//   h = SHA-1(speaker) mod 2²⁷,  percentage = h · 100 / (2²⁷ − 1)
Split WhichSplit(std::string_view file_name, double validation_percentage,
                 double testing_percentage);

}  // namespace muster::worker
