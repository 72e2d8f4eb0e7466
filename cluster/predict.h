// `launch predict --job-dir D clip.wav…`: what a trained model makes of files. Free function,
// thread-safe for different streams.
#pragma once

#include <cstdio>
#include <span>
#include <string>

#include "cluster/trained_model.h"

namespace muster::cluster {

// Prints one line per file to `out`: its name, the three likeliest labels and their probabilities;
// for a file that cannot be read one line to `err` instead. Returns the exit code: 0, 1 when a file
// or a checkpoint is bad, 2 when `job_dir` is not a job's directory or has nothing to predict with.
int RunPredict(const std::string& job_dir, std::span<const std::string> files,
               const MakeModule& make_module, std::FILE* out, std::FILE* err);

}  // namespace muster::cluster
