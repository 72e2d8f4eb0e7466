// Kernels of the optimizers' updates (kernels/optimizer_math.h): one pass, four elements an index,
// arrays aligned to 16 bytes.
//
//   g = clamp(scale * grad, -clip, clip) + decay * w
//   sgd       w' = w - lr g
//   momentum  m = mu m + g;                    w' = w - lr m
//   nesterov  m = mu m + g;                    w' = w - lr (mu m + g)
//   adagrad   a = a + g^2;                     w' = w - lr g / (sqrt(a) + epsilon)
//   rmsprop   s = rho s + (1 - rho) g^2;       u = lr g / sqrt(s + epsilon)
//             centered: a = rho a + (1 - rho) g, and max(s - a^2, 0) in the place of s
//             momentum: v = mu v + u, and v in the place of u;    w' = w - u
//   adam      m = b1 m + (1 - b1) g;           v = b2 v + (1 - b2) g^2
//             u = size m / (unbias sqrt(v) + epsilon)
//             w' = (w - shrink w) - u;         lamb: w' = u + shrink w
//   ftrl      b = a + g^2;                     z = z + (g - (b^p - a^p) / lr w);    a = b
//             w' = |z| > l1 ? (sign(z) l1 - z) / (b^p / lr + 2 l2) : 0
//   ema       w' = w + rate (mean_scale sum - w)
//
// Rounded where the CPU with a fused multiply-add rounds, so that both give the same bits, but for
// ftrl with a power other than 1/2, which is the last bit's matter. That asks for -fmad=false: a
// fused multiply-add is written or absent.
//
// The functions below take what the CPU's take, and make the kernel for CeilDiv(in.n, 4) indices.
// See kernel.h for what a kernel is.
#pragma once

#include <cmath>

#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"
#include "kernels/optimizer_math.h"

namespace muster::gpu {

// As the CPU's vectors compare: what is not a number becomes the second.
MUSTER_KERNEL float Larger(float a, float b) { return a > b ? a : b; }
MUSTER_KERNEL float Smaller(float a, float b) { return a < b ? a : b; }

MUSTER_KERNEL float UpdateGradient(const UpdateInput& in, float grad, float w) {
  return fmaf(in.decay, w, Smaller(Larger(-in.clip, in.scale * grad), in.clip));
}

inline constexpr int kMaxSlots = 3;  // arrays that an optimizer has, besides the weights

// A Rule has a kSlots and
//   float operator()(const UpdateInput&, float grad, float w, float (&slot)[kMaxSlots]) const
// which updates an element's slots and returns its next weight.
template <class Rule>
struct UpdateKernel {
  UpdateInput in;
  Rule rule;
  float* slots[kMaxSlots];  // null where there is none

  MUSTER_KERNEL void operator()(int64_t i) const {
    // A branch here, and the compiler needs none at each array.
    const int count = CountOfFour(4 * i, in.n);
    count == 4 ? Update(4 * i, 4) : Update(4 * i, count);
  }

 private:
  MUSTER_KERNEL void Update(int64_t first, int count) const {
    const Pack4 grad = LoadFour(in.grad + first, count), w = LoadFour(in.w + first, count);
    Pack4 slot[kMaxSlots] = {}, next;
    for (int s = 0; s < Rule::kSlots; ++s) {
      if (slots[s] != nullptr) slot[s] = LoadFour(slots[s] + first, count);
    }
    for (int k = 0; k < 4; ++k) {
      float element[kMaxSlots] = {slot[0][k], slot[1][k], slot[2][k]};
      next[k] = rule(in, grad[k], w[k], element);
      for (int s = 0; s < Rule::kSlots; ++s) slot[s][k] = element[s];
    }
    for (int s = 0; s < Rule::kSlots; ++s) {
      if (slots[s] != nullptr) StoreFour(slot[s], count, slots[s] + first);
    }
    StoreFour(next, count, in.w_next + first);
  }
};

struct SgdRule {
  static constexpr int kSlots = 0;
  MUSTER_KERNEL float operator()(const UpdateInput& in, float grad, float w,
                                 float (&)[kMaxSlots]) const {
    return fmaf(-in.learning_rate, UpdateGradient(in, grad, w), w);
  }
};
inline UpdateKernel<SgdRule> SgdKernel(const UpdateInput& in) { return {in, {}, {}}; }

template <bool kNesterov>
struct MomentumRule {
  static constexpr int kSlots = 1;
  float mu;
  MUSTER_KERNEL float operator()(const UpdateInput& in, float grad, float w,
                                 float (&slot)[kMaxSlots]) const {
    const float g = UpdateGradient(in, grad, w);
    const float m = slot[0] = fmaf(mu, slot[0], g);
    return fmaf(-in.learning_rate, kNesterov ? fmaf(mu, m, g) : m, w);
  }
};
inline UpdateKernel<MomentumRule<false>> MomentumKernel(const UpdateInput& in, float mu,
                                                        float* momentum) {
  return {in, {mu}, {momentum}};
}
inline UpdateKernel<MomentumRule<true>> NesterovKernel(const UpdateInput& in, float mu,
                                                       float* momentum) {
  return {in, {mu}, {momentum}};
}

struct AdagradRule {
  static constexpr int kSlots = 1;
  float epsilon;
  MUSTER_KERNEL float operator()(const UpdateInput& in, float grad, float w,
                                 float (&slot)[kMaxSlots]) const {
    const float g = UpdateGradient(in, grad, w);
    slot[0] = fmaf(g, g, slot[0]);
    return w - in.learning_rate * g / (sqrtf(slot[0]) + epsilon);
  }
};
inline UpdateKernel<AdagradRule> AdagradKernel(const UpdateInput& in, float epsilon,
                                               float* accumulator) {
  return {in, {epsilon}, {accumulator}};
}

struct RmspropRule {
  static constexpr int kSlots = 3;
  RmspropFactors f;
  bool has_velocity, centered;
  MUSTER_KERNEL float operator()(const UpdateInput& in, float grad, float w,
                                 float (&slot)[kMaxSlots]) const {
    const float g = UpdateGradient(in, grad, w);
    float variance = slot[0] = fmaf(f.rho, slot[0], f.one_minus_rho * (g * g));
    if (centered) {
      const float mean = slot[2] = fmaf(f.rho, slot[2], f.one_minus_rho * g);
      variance = Larger(fmaf(-mean, mean, variance), 0.0f);
    }
    float step = in.learning_rate * g / sqrtf(variance + f.epsilon);
    if (has_velocity) step = slot[1] = fmaf(f.momentum, slot[1], step);
    return w - step;
  }
};
inline UpdateKernel<RmspropRule> RmspropKernel(const UpdateInput& in, const RmspropFactors& factors,
                                               float* square, float* velocity, float* mean) {
  return {in, {factors, velocity != nullptr, mean != nullptr}, {square, velocity, mean}};
}

template <bool kLamb>
struct AdamRule {
  static constexpr int kSlots = 2;
  AdamFactors f;
  MUSTER_KERNEL float operator()(const UpdateInput& in, float grad, float w,
                                 float (&slot)[kMaxSlots]) const {
    const float g = UpdateGradient(in, grad, w);
    const float m = slot[0] = fmaf(f.beta1, slot[0], f.one_minus_beta1 * g);
    const float v = slot[1] = fmaf(f.beta2, slot[1], f.one_minus_beta2 * (g * g));
    const float step = f.step_size * m / fmaf(sqrtf(v), f.v_unbias, f.epsilon);
    return kLamb ? fmaf(f.shrink, w, step) : fmaf(-f.shrink, w, w) - step;
  }
};
inline UpdateKernel<AdamRule<false>> AdamKernel(const UpdateInput& in, const AdamFactors& factors,
                                                float* m, float* v) {
  return {in, {factors}, {m, v}};
}
inline UpdateKernel<AdamRule<true>> LambDirectionKernel(const UpdateInput& in,
                                                        const AdamFactors& factors, float* m,
                                                        float* v) {
  return {in, {factors}, {m, v}};
}

struct FtrlRule {
  static constexpr int kSlots = 2;
  FtrlFactors f;
  MUSTER_KERNEL float operator()(const UpdateInput& in, float grad, float w,
                                 float (&slot)[kMaxSlots]) const {
    const float g = UpdateGradient(in, grad, w);
    const float a = slot[0], b = slot[0] = fmaf(g, g, a);
    const float p = ToPower(b);
    const float sigma = (p - ToPower(a)) * f.inverse_rate;
    const float z = slot[1] = slot[1] + fmaf(-sigma, w, g);
    const float next = (copysignf(f.l1, z) - z) / fmaf(p, f.inverse_rate, f.two_l2);
    return fabsf(z) > f.l1 ? next : 0.0f;
  }

 private:
  // x^power for x >= 0, in float64: two such values are subtracted.
  MUSTER_KERNEL float ToPower(float x) const {
    if (f.power == 0.5f) return sqrtf(x);
    if (x == 0) return f.power == 0 ? 1.0f : 0.0f;
    return static_cast<float>(exp(log(static_cast<double>(x)) * static_cast<double>(f.power)));
  }
};
inline UpdateKernel<FtrlRule> FtrlKernel(const UpdateInput& in, const FtrlFactors& factors,
                                         float* accumulator, float* linear) {
  return {in, {factors}, {accumulator, linear}};
}

struct EmaRule {
  static constexpr int kSlots = 0;
  float mean_scale, rate;
  MUSTER_KERNEL float operator()(const UpdateInput&, float sum, float w,
                                 float (&)[kMaxSlots]) const {
    return fmaf(rate, mean_scale * sum - w, w);
  }
};
inline UpdateKernel<EmaRule> EmaKernel(const float* sum, const float* w, float* w_next, int64_t n,
                                       float mean_scale, float rate) {
  return {{.grad = sum, .w = w, .w_next = w_next, .n = n}, {mean_scale, rate}, {}};
}

}  // namespace muster::gpu
