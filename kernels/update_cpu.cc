// The cpu device's updates of weights: kernels/optimizer_math.h does them.
#include <algorithm>
#include <cmath>

#include "kernels/op_cpu.h"

namespace muster {

void CpuOps::SgdUpdate(Stream&, const UpdateInput& in) { muster::SgdUpdate(in); }

void CpuOps::MomentumUpdate(Stream&, const UpdateInput& in, float mu, float* momentum) {
  muster::MomentumUpdate(in, mu, momentum);
}

void CpuOps::NesterovUpdate(Stream&, const UpdateInput& in, float mu, float* momentum) {
  muster::NesterovUpdate(in, mu, momentum);
}

void CpuOps::AdagradUpdate(Stream&, const UpdateInput& in, float epsilon, float* accumulator) {
  muster::AdagradUpdate(in, epsilon, accumulator);
}

void CpuOps::RmspropUpdate(Stream&, const UpdateInput& in, const RmspropFactors& factors,
                           float* square, float* velocity, float* mean) {
  muster::RmspropUpdate(in, factors, square, velocity, mean);
}

void CpuOps::AdamUpdate(Stream&, const UpdateInput& in, const AdamFactors& factors, float* m,
                        float* v) {
  muster::AdamUpdate(in, factors, m, v);
}

void CpuOps::LambDirection(Stream&, const UpdateInput& in, const AdamFactors& factors, float* m,
                           float* v) {
  muster::LambDirection(in, factors, m, v);
}

void CpuOps::FtrlUpdate(Stream&, const UpdateInput& in, const FtrlFactors& factors,
                        float* accumulator, float* linear) {
  muster::FtrlUpdate(in, factors, accumulator, linear);
}

void CpuOps::EmaUpdate(Stream&, const float* sum, const float* w, float* w_next, int64_t n,
                       float mean_scale, float rate) {
  muster::EmaUpdate(sum, w, w_next, n, mean_scale, rate);
}

void CpuOps::FindNonFinite(Stream&, int64_t n, const float* x, int32_t* found) {
  if (!std::all_of(x, x + n, [](float value) { return std::isfinite(value); })) *found = 1;
}

}  // namespace muster
