// A picture of a table's rows, for the documentation.
//
// A free function, thread-safe.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace muster::bench {

// An SVG: a bar for each row of Table::all() of which something is asked, as long as what was
// reached over what was asked (asked over reached where less is better), cut off at 3 times. What
// is asked is of the ratio to a roof, without one or with asked_of_value of the value.
std::string Chart(const nlohmann::json& rows);

}  // namespace muster::bench
