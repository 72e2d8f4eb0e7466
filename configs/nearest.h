// Nearest: finds what the user probably meant among the valid names. Pure functions: thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster {

// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`; letter case and '_',
// '-', '.' count for nothing.
int EditDistance(std::string_view a, std::string_view b);

// The valid name nearest to `name`, or "" when none is near: more than a third of its letters would
// change (two edits are always near for names of four letters or more). Ties go to the first.
std::string Nearest(std::string_view name, const std::vector<std::string>& valid);

// "write `workerCount`" when a valid name is near, else "write one of a, b, c".
std::string WriteNearest(std::string_view name, const std::vector<std::string>& valid);

}  // namespace muster
