// A case that the command line describes rather than a row of the table.
//
// A free function, thread-compatible. For benchmarks: what fails ends the program.
#pragma once

#include <string>

#include "bench/figures.h"
#include "bench/load.h"

namespace muster::bench {

struct Custom {
  Load load;                           // a worker is a replica
  std::string direction = "pushpull";  // or push, pull
};

// load.servers processes, and a thread with a transport of its own for each worker, in steps: GB/s
// of gradients and parameters over all workers, and M keys/s pushed, pulled or both. What comes
// back is checked where load.exact().
void MeasureCustom(const Custom& custom, double seconds, int rounds, Table& table);

}  // namespace muster::bench
