#include "ps/gradient_error.h"

#include <fmt/format.h>

namespace muster::ps {

absl::Status BadGradient(const std::string& slice, int64_t step, int64_t replica,
                         const std::string& why) {
  return absl::InvalidArgumentError(
      fmt::format("the gradient of {} at step {} from replica {} {}", slice, step, replica, why));
}

absl::Status NonFiniteGradient(const std::string& slice, int64_t step, int64_t replica,
                               const Codec* codec) {
  return BadGradient(
      slice, step, replica,
      fmt::format("holds a value that is not finite{}, or makes the sum overflow; lower "
                  "the learning rate, or look at that replica's data",
                  codec == nullptr ? "" : fmt::format(" as {}", codec->name())));
}

}  // namespace muster::ps
