// Optimizer math: the sums and the element-wise updates that a parameter server runs over a slice,
// vectorised for the CPU it runs on (Highway, chosen at run time).
//
// Pure functions over float32 arrays: thread-safe. Every function treats each element alike,
// whatever its place in the array, so cutting an array anywhere gives the same bits. On one
// instruction set the result is a function of the values alone; between instruction sets it may
// differ where one has a fused multiply-add and the other has not.
//
// Sizes are in elements. `w_next` may be `w`; nothing else may overlap. Destinations and optimizer
// arrays are aligned to 4 bytes; a `src` may lie at any address (a receive buffer). The formula of
// an update stands in ps/optimizers/<name>.cc; here it is written once more as code.
#pragma once

#include <cstdint>

namespace muster {

// Elements that a caller hands over at once when other work must not wait for a whole slice: 64
// KiB.
inline constexpr int64_t kQuantum = 16384;

// dst = src. False when src holds a value that is not finite (dst is written all the same).
[[nodiscard]] bool CopyInto(float* dst, const void* src, int64_t n);
// dst += src. False when a sum is not finite: src held such a value, or the sum overflowed.
[[nodiscard]] bool AddInto(float* dst, const void* src, int64_t n);

// The sum of the squares, in float64, in an order that depends on n alone: the same bits on every
// instruction set.
[[nodiscard]] double SumOfSquares(const float* x, int64_t n);

// What all updates have in common: g = clamp(scale * grad, -clip, clip) + decay * w.
struct UpdateInput {
  const float* grad;
  const float* w;
  float* w_next;
  int64_t n;
  float scale;  // of the summed gradient
  float decay;  // L2 penalty
  float learning_rate;
  float clip;  // infinity: off
};

void SgdUpdate(const UpdateInput& in);
// `momentum` is the array m, `mu` its factor.
void MomentumUpdate(const UpdateInput& in, float mu, float* momentum);
void NesterovUpdate(const UpdateInput& in, float mu, float* momentum);
void AdagradUpdate(const UpdateInput& in, float epsilon, float* accumulator);
struct RmspropFactors {
  float rho, one_minus_rho;
  float momentum;
  float epsilon;
};
// `velocity` null: without momentum; `mean` null: not centered.
void RmspropUpdate(const UpdateInput& in, const RmspropFactors& factors, float* square,
                   float* velocity, float* mean);
struct AdamFactors {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;  // learning rate / (1 - beta1^t); the learning rate of UpdateInput is not read
  float v_unbias;   // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float shrink;  // AdamW's learning rate * weight decay; 0 for Adam
};
void AdamUpdate(const UpdateInput& in, const AdamFactors& factors, float* m, float* v);
// LAMB's direction, into in.w_next, which may be in.grad: Adam's step plus `shrink` times the
// weight. step_size is 1 / (1 - beta1^t) here, shrink the weight decay; in.decay is not part of it.
void LambDirection(const UpdateInput& in, const AdamFactors& factors, float* m, float* v);
struct FtrlFactors {
  float power;         // of the accumulator: minus TensorFlow's learning_rate_power, 0 or more
  float inverse_rate;  // 1 / learning rate; the learning rate of UpdateInput is not read
  float l1;
  float two_l2;  // 2 * l2
};
void FtrlUpdate(const UpdateInput& in, const FtrlFactors& factors, float* accumulator,
                float* linear);

// w_next = w + rate * (mean_scale * sum - w).
void EmaUpdate(const float* sum, const float* w, float* w_next, int64_t n, float mean_scale,
               float rate);

}  // namespace muster
