// This machine's name. Thread-safe.
#pragma once

#include <unistd.h>

#include <string>

namespace muster {

// As the system has it; "localhost" when it does not say.
inline std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "localhost";
}

}  // namespace muster
