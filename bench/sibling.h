// Rows that another benchmark of this folder measures: it is run, and what it wrote with --json
// goes into the table.
//
// A free function, thread-compatible.
#pragma once

#include <string>
#include <vector>

#include "bench/figures.h"

namespace muster::bench {

// Runs `program`, which lies beside this one, with `words`; adds its rows that `wanted` names.
void MeasureWithSibling(const std::string& program, std::vector<std::string> words,
                        const std::vector<std::string>& wanted, Table& table);

}  // namespace muster::bench
