// CHECK: stops the process on a bug of ours, naming the place and both values.
//
// Only for what cannot happen unless Muster itself is wrong. Whatever the outside can cause (a
// file, a peer, a user) is an absl::Status instead. Thread-safe.
#pragma once

#include <fmt/format.h>

#include <string>

namespace muster {

// Prints `what` with its place to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const std::string& what);

}  // namespace muster

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) [[unlikely]] {                                      \
      ::muster::CheckFailed(__FILE__, __LINE__, "CHECK(" #condition ")"); \
    }                                                                     \
  } while (false)

#define MUSTER_CHECK_OP_(a, op, b)                                                               \
  do {                                                                                           \
    const auto& check_a_ = (a);                                                                  \
    const auto& check_b_ = (b);                                                                  \
    if (!(check_a_ op check_b_)) [[unlikely]] {                                                  \
      ::muster::CheckFailed(                                                                     \
          __FILE__, __LINE__,                                                                    \
          fmt::format("{}: {} against {}", "CHECK(" #a " " #op " " #b ")", check_a_, check_b_)); \
    }                                                                                            \
  } while (false)

#define CHECK_EQ(a, b) MUSTER_CHECK_OP_(a, ==, b)
#define CHECK_NE(a, b) MUSTER_CHECK_OP_(a, !=, b)
#define CHECK_LT(a, b) MUSTER_CHECK_OP_(a, <, b)
#define CHECK_LE(a, b) MUSTER_CHECK_OP_(a, <=, b)
#define CHECK_GT(a, b) MUSTER_CHECK_OP_(a, >, b)
#define CHECK_GE(a, b) MUSTER_CHECK_OP_(a, >=, b)
