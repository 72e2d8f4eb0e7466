#include "worker/layers/layer.h"

namespace muster::worker {

ps::ParamSpec WeightSpec(std::string name, const Shape& shape, float stddev) {
  ps::ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = shape.ToVector();
  spec.init = {ps::Init::Kind::kTruncatedNormal, stddev};
  return spec;
}

ps::ParamSpec BiasSpec(std::string name, int64_t size) {
  ps::ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = {size};
  spec.decay = false;
  return spec;
}

ps::ParamSpec GainSpec(std::string name, int64_t size) {
  ps::ParamSpec spec = BiasSpec(std::move(name), size);
  spec.init = {ps::Init::Kind::kConstant, 1};
  return spec;
}

}  // namespace muster::worker
