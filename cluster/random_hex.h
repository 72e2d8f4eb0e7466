// Names that nobody else gives: random bytes in hexadecimal. Thread-safe.
#pragma once

#include <cstddef>
#include <string>

namespace muster::cluster {

// `bytes` of the kernel's, at most 256; "" when it has none.
std::string RandomHex(size_t bytes);

}  // namespace muster::cluster
