// First values of parameters: a function of (seed, parameter name, element index), whoever computes
// them and however the parameter is cut.
//
// Pure function: thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "ps/param.h"

namespace muster::ps {

// Writes the first values of elements [begin, begin + out.size()) of the parameter into `out`.
void InitialValues(const ParamSpec& spec, uint64_t seed, int64_t begin, std::span<float> out);

}  // namespace muster::ps
