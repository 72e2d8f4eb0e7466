// HttpGet: one question to a server on this machine, as curl would ask it.
#pragma once

#include <string>

namespace muster::harness {

// The whole answer, headers included, of `path` at `address` ("127.0.0.1:PORT"); "" when nobody
// answers.
std::string HttpGet(const std::string& address, const std::string& path);

}  // namespace muster::harness
