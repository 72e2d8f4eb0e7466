// What a server's process uses while it is pushed to, and while nobody asks it for anything.
//
// Free functions, thread-compatible. For benchmarks: what fails ends the program.
#pragma once

#include "bench/figures.h"

namespace muster::bench {

// The rows of MeasureSoak: in shared memory, and over gRPC.
const char* SoakName(bool shared);
// Four replicas push as fast as their credit lets them for `seconds`: by how many per cent the
// server's resident memory exceeds, at most, what it was after a tenth of the time.
void MeasureSoak(bool shared, double seconds, Table& table);

// The processor time of a server and of the worker that is connected to it, in per cent of one
// core, over `seconds` in which neither has anything to do.
void MeasureIdle(double seconds, Table& table);

}  // namespace muster::bench
