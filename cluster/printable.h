// Text of files that somebody else may have written, for the user's terminal. Thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace muster::cluster {

// `text` with every control character replaced, so that it cannot steer a terminal.
inline std::string Printable(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return printable;
}

}  // namespace muster::cluster
