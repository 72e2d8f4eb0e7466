#include "configs/codec_text.h"

#include <fmt/format.h>

namespace muster {
namespace {

// A CodecSpec or ParameterCodec without its parameters or pattern.
template <class Spec>
std::string OneText(const Spec& spec) {
  const std::string name = spec.push().empty() ? "none" : spec.push();
  return spec.fraction() == 0 ? name : fmt::format("{} {}", name, spec.fraction());
}

}  // namespace

std::string FormatCodec(const CodecSpec& spec) {
  std::string text = OneText(spec);
  for (const ParameterCodec& parameter : spec.parameters()) {
    text += fmt::format(", {}: {}", parameter.pattern(), OneText(parameter));
  }
  return text;
}

}  // namespace muster
