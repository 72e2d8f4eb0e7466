#include "telemetry/check.h"

#include <cstdio>
#include <cstdlib>

namespace muster {

void CheckFailed(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s (a bug in Muster; please report it)\n", file, line, what.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace muster
