#include "configs/codec_text.h"

#include <fmt/format.h>

namespace muster {
namespace {

// A CodecSpec or ParameterCodec without its parameters or pattern.
template <class Spec>
std::string OneText(const Spec& spec) {
  std::string text = spec.push().empty() ? "none" : spec.push();
  if (spec.fraction() != 0) text += fmt::format(" {}", spec.fraction());
  if (!spec.pull().empty() && spec.pull() != "none") text += fmt::format(" pull {}", spec.pull());
  if (spec.pull_fraction() != 0) text += fmt::format(" {}", spec.pull_fraction());
  return text;
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
