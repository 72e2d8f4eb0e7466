// Where a folder of data lies that a flag of a module names (Flag::Type::kFolder).
//
// A folder of another machine, or one in an object store (s3://…, gs://…), is brought by the
// launcher into a folder of its own, under the one that MUSTER_DATA names in a role's environment.
//
// Free functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace muster::worker {

inline constexpr char kDataVariable[] = "MUSTER_DATA";

// The name of what stands for `path`, a path or an address, on a machine that it was brought to:
// "clips-0123abcd".
std::string NameWhereBrought(std::string_view path);

// `value` itself where there is such a folder; else what was brought for it below `root`; else
// `value`.
std::string DataFolder(const std::string& value, const std::string& root);
// The same with the root that the environment names.
std::string DataFolder(const std::string& value);

}  // namespace muster::worker
