#include "cluster/random_hex.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <vector>

namespace muster::cluster {

std::string RandomHex(size_t bytes) {
  std::vector<unsigned char> random(bytes);
  std::string text;
  if (getrandom(random.data(), bytes, 0) != static_cast<ssize_t>(bytes)) return text;
  for (const unsigned char byte : random) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace muster::cluster
