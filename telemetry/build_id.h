// BuildId: which build a program is of. Programs of one build agree; those of another source,
// compiler or flags do not join a job.
//
// Thread-safe. The definition is generated at every build (cmake/build_id.cmake) and linked by
// programs only, so that a changed source costs tests nothing.
#pragma once

namespace muster {

// Twelve hexadecimal digits.
const char* BuildId();

}  // namespace muster
