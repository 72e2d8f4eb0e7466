#include "ps/init.h"

#include <algorithm>

#include "kernels/philox.h"

namespace muster::ps {

void InitialValues(const ParamSpec& spec, uint64_t seed, int64_t begin, std::span<float> out) {
  const PhiloxKey key = DeriveKey(seed, HashName("ps/init"), HashName(spec.name));
  const float value = spec.init.value;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t index = static_cast<uint64_t>(begin) + i;
    switch (spec.init.kind) {
      case Init::Kind::kZeros:
        out[i] = 0;
        break;
      case Init::Kind::kConstant:
        out[i] = value;
        break;
      case Init::Kind::kTruncatedNormal:
        out[i] = value * TruncatedNormal(key, index);
        break;
      case Init::Kind::kUniform:
        out[i] = value * (2 * UniformFloat(Philox(key, index)[0]) - 1);
        break;
    }
  }
}

}  // namespace muster::ps
