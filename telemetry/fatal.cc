#include "telemetry/fatal.h"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace muster {

void Fatal(const absl::Status& status) {
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  std::fflush(stderr);
  _exit(1);
}

}  // namespace muster
