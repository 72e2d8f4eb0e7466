#include "kernels/optimizer_math.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/optimizer_math.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes before what it includes again for each target.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace muster::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;

// The larger of `max` and x's magnitudes, as bits: not finite from 0x7f800000 up.
HWY_INLINE VI MaxMagnitude(VI max, V x) {
  const DI di;
  return hn::Max(max, hn::And(hn::BitCast(di, x), hn::Set(di, 0x7fffffff)));
}

HWY_INLINE bool AllFinite(VI max) {
  const DI di;
  return hn::GetLane(hn::MaxOfLanes(di, max)) < 0x7f800000;
}

// dst[i] = op(dst[i], src[i]); the last, partial vector goes through a padded copy, so that every
// element sees the same instructions.
template <bool kReadsDst, class Op>
HWY_INLINE bool Combine(float* dst, const void* src_any, int64_t n, Op op) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float* src = static_cast<const float*>(src_any);  // only for LoadU, which may be unaligned
  VI max = hn::Zero(DI());
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V x = op(kReadsDst ? hn::LoadU(d, dst + i) : hn::Zero(d), hn::LoadU(d, src + i));
    max = MaxMagnitude(max, x);
    hn::StoreU(x, d, dst + i);
  }
  if (const size_t rest = static_cast<size_t>(n - i) * sizeof(float); rest > 0) {
    HWY_ALIGN float a[hn::MaxLanes(D())] = {};
    HWY_ALIGN float b[hn::MaxLanes(D())] = {};
    if (kReadsDst) std::memcpy(a, dst + i, rest);
    std::memcpy(b, static_cast<const char*>(src_any) + i * static_cast<int64_t>(sizeof(float)),
                rest);
    const V x = op(hn::Load(d, a), hn::Load(d, b));
    max = MaxMagnitude(max, x);
    hn::Store(x, d, a);
    std::memcpy(dst + i, a, rest);
  }
  return AllFinite(max);
}

bool CopyInto(float* dst, const void* src, int64_t n) {
  return Combine<false>(dst, src, n, [](V, V s) HWY_ATTR { return s; });
}

bool AddInto(float* dst, const void* src, int64_t n) {
  return Combine<true>(dst, src, n, [](V a, V s) HWY_ATTR { return hn::Add(a, s); });
}

// Lane j of 16 sums the elements i with i % 16 = j; the lanes are then added pairwise. A float's
// square is exact in float64.
double SumOfSquares(const float* x, int64_t n) {
  constexpr int64_t kSums = 16;
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> narrow;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  hn::Vec<decltype(d)> sums[kSums / kLanes];
  for (auto& sum : sums) sum = hn::Zero(d);
  const auto add = [&](const float* from) HWY_ATTR {
    for (int64_t k = 0; k < kSums / kLanes; ++k) {
      const auto v = hn::PromoteTo(d, hn::LoadU(narrow, from + k * kLanes));
      sums[k] = hn::MulAdd(v, v, sums[k]);
    }
  };
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) add(x + i);
  if (i < n) {
    HWY_ALIGN float rest[kSums] = {};
    std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
    add(rest);
  }
  HWY_ALIGN double lanes[kSums];
  for (int64_t k = 0; k < kSums / kLanes; ++k) hn::Store(sums[k], d, lanes + k * kLanes);
  for (int64_t half = kSums / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

constexpr int kMaxSlots = 3;

// One position in all the arrays of an update; slots that an optimizer has not are null.
struct Cursor {
  const float* grad;
  const float* w;
  float* w_next;
  float* slot[kMaxSlots];
};

// Calls step(d, cursor) for each full vector, and once on padded copies for what remains.
template <class Step>
HWY_INLINE void Run(const Cursor& all, int64_t n, Step step) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  Cursor at = all;
  for (; i + lanes <= n; i += lanes) {
    step(d, at);
    at.grad += lanes;
    at.w += lanes;
    at.w_next += lanes;
    for (float*& slot : at.slot) {
      if (slot != nullptr) slot += lanes;
    }
  }
  const size_t rest = static_cast<size_t>(n - i) * sizeof(float);
  if (rest == 0) return;
  HWY_ALIGN float copy[3 + kMaxSlots][hn::MaxLanes(D())] = {};
  std::memcpy(copy[0], at.grad, rest);
  std::memcpy(copy[1], at.w, rest);
  for (int s = 0; s < kMaxSlots; ++s) {
    if (at.slot[s] != nullptr) std::memcpy(copy[3 + s], at.slot[s], rest);
  }
  step(d, Cursor{copy[0], copy[1], copy[2], {copy[3], copy[4], copy[5]}});
  std::memcpy(at.w_next, copy[2], rest);
  for (int s = 0; s < kMaxSlots; ++s) {
    if (at.slot[s] != nullptr) std::memcpy(at.slot[s], copy[3 + s], rest);
  }
}

// g = clamp(scale * grad, -clip, clip) + decay * w
HWY_INLINE V Gradient(D d, const Cursor& at, V w, V scale, V clip, V decay) {
  const V mean = hn::Mul(scale, hn::LoadU(d, at.grad));
  return hn::MulAdd(decay, w, hn::Clamp(mean, hn::Neg(clip), clip));
}

void SgdUpdate(const UpdateInput& in) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V lr = hn::Set(d0, in.learning_rate);
  Run({in.grad, in.w, in.w_next, {}}, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    hn::StoreU(hn::NegMulAdd(lr, Gradient(d, at, w, scale, clip, decay), w), d, at.w_next);
  });
}

void MomentumUpdate(const UpdateInput& in, float mu, float* momentum) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V lr = hn::Set(d0, in.learning_rate), factor = hn::Set(d0, mu);
  Run({in.grad, in.w, in.w_next, {momentum}}, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V g = Gradient(d, at, w, scale, clip, decay);
    const V m = hn::MulAdd(factor, hn::LoadU(d, at.slot[0]), g);
    hn::StoreU(m, d, at.slot[0]);
    hn::StoreU(hn::NegMulAdd(lr, m, w), d, at.w_next);
  });
}

void NesterovUpdate(const UpdateInput& in, float mu, float* momentum) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V lr = hn::Set(d0, in.learning_rate), factor = hn::Set(d0, mu);
  Run({in.grad, in.w, in.w_next, {momentum}}, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V g = Gradient(d, at, w, scale, clip, decay);
    const V m = hn::MulAdd(factor, hn::LoadU(d, at.slot[0]), g);
    hn::StoreU(m, d, at.slot[0]);
    hn::StoreU(hn::NegMulAdd(lr, hn::MulAdd(factor, m, g), w), d, at.w_next);
  });
}

void AdagradUpdate(const UpdateInput& in, float epsilon, float* accumulator) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V lr = hn::Set(d0, in.learning_rate), eps = hn::Set(d0, epsilon);
  Run({in.grad, in.w, in.w_next, {accumulator}}, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V g = Gradient(d, at, w, scale, clip, decay);
    const V a = hn::MulAdd(g, g, hn::LoadU(d, at.slot[0]));
    hn::StoreU(a, d, at.slot[0]);
    const V step = hn::Div(hn::Mul(lr, g), hn::Add(hn::Sqrt(a), eps));
    hn::StoreU(hn::Sub(w, step), d, at.w_next);
  });
}

void RmspropUpdate(const UpdateInput& in, const RmspropFactors& factors, float* square_array,
                   float* velocity_array, float* mean_array) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V rho = hn::Set(d0, factors.rho), rest = hn::Set(d0, factors.one_minus_rho);
  const V lr = hn::Set(d0, in.learning_rate), factor = hn::Set(d0, factors.momentum);
  const V eps = hn::Set(d0, factors.epsilon);
  const bool has_velocity = velocity_array != nullptr, centered = mean_array != nullptr;
  const Cursor all = {in.grad, in.w, in.w_next, {square_array, velocity_array, mean_array}};
  Run(all, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V g = Gradient(d, at, w, scale, clip, decay);
    const V square = hn::MulAdd(rho, hn::LoadU(d, at.slot[0]), hn::Mul(rest, hn::Mul(g, g)));
    hn::StoreU(square, d, at.slot[0]);
    V variance = square;
    if (centered) {
      const V mean = hn::MulAdd(rho, hn::LoadU(d, at.slot[2]), hn::Mul(rest, g));
      hn::StoreU(mean, d, at.slot[2]);
      variance = hn::Max(hn::NegMulAdd(mean, mean, square), hn::Zero(d));
    }
    V step = hn::Div(hn::Mul(lr, g), hn::Sqrt(hn::Add(variance, eps)));
    if (has_velocity) {
      step = hn::MulAdd(factor, hn::LoadU(d, at.slot[1]), step);
      hn::StoreU(step, d, at.slot[1]);
    }
    hn::StoreU(hn::Sub(w, step), d, at.w_next);
  });
}

// Updates the moments; w_next = finish(w, Adam's step).
template <class Finish>
HWY_INLINE void Adam(const UpdateInput& in, const AdamFactors& factors, float* m_array,
                     float* v_array, Finish finish) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V b1 = hn::Set(d0, factors.beta1), c1 = hn::Set(d0, factors.one_minus_beta1);
  const V b2 = hn::Set(d0, factors.beta2), c2 = hn::Set(d0, factors.one_minus_beta2);
  const V size = hn::Set(d0, factors.step_size), unbias = hn::Set(d0, factors.v_unbias);
  const V eps = hn::Set(d0, factors.epsilon);
  Run({in.grad, in.w, in.w_next, {m_array, v_array}}, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V g = Gradient(d, at, w, scale, clip, decay);
    const V m = hn::MulAdd(b1, hn::LoadU(d, at.slot[0]), hn::Mul(c1, g));
    const V v = hn::MulAdd(b2, hn::LoadU(d, at.slot[1]), hn::Mul(c2, hn::Mul(g, g)));
    hn::StoreU(m, d, at.slot[0]);
    hn::StoreU(v, d, at.slot[1]);
    const V denominator = hn::MulAdd(hn::Sqrt(v), unbias, eps);
    hn::StoreU(finish(w, hn::Div(hn::Mul(size, m), denominator)), d, at.w_next);
  });
}

void AdamUpdate(const UpdateInput& in, const AdamFactors& factors, float* m, float* v) {
  const V shrink = hn::Set(D(), factors.shrink);
  Adam(in, factors, m, v,
       [&](V w, V step) HWY_ATTR { return hn::Sub(hn::NegMulAdd(shrink, w, w), step); });
}

void LambDirection(const UpdateInput& in, const AdamFactors& factors, float* m, float* v) {
  const V decay = hn::Set(D(), factors.shrink);
  Adam(in, factors, m, v, [&](V w, V step) HWY_ATTR { return hn::MulAdd(decay, w, step); });
}

// a^power for a >= 0, by logarithms in float64: FTRL subtracts two such values.
HWY_INLINE V Power(D d, V a, double power) {
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, decltype(wide)> narrow;
  const auto at_zero = hn::Set(wide, power == 0 ? 1.0 : 0.0);
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(a, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); i += hn::Lanes(wide)) {
    const auto x = hn::PromoteTo(wide, hn::Load(narrow, lanes + i));
    const auto log = hn::Log(wide, hn::Max(x, hn::Set(wide, 1e-300)));
    const auto y = hn::Exp(wide, hn::Mul(log, hn::Set(wide, power)));
    hn::Store(hn::DemoteTo(narrow, hn::IfThenElse(hn::Eq(x, hn::Zero(wide)), at_zero, y)), narrow,
              lanes + i);
  }
  return hn::Load(d, lanes);
}

template <class ToPower>
HWY_INLINE void Ftrl(const UpdateInput& in, const FtrlFactors& factors, float* accumulator,
                     float* linear, ToPower to_power) {
  const D d0;
  const V scale = hn::Set(d0, in.scale), clip = hn::Set(d0, in.clip);
  const V decay = hn::Set(d0, in.decay);
  const V inverse_rate = hn::Set(d0, factors.inverse_rate);
  const V l1 = hn::Set(d0, factors.l1), two_l2 = hn::Set(d0, factors.two_l2);
  Run({in.grad, in.w, in.w_next, {accumulator, linear}}, in.n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V g = Gradient(d, at, w, scale, clip, decay);
    const V a = hn::LoadU(d, at.slot[0]);
    const V a_next = hn::MulAdd(g, g, a);
    hn::StoreU(a_next, d, at.slot[0]);
    const V p = to_power(d, a_next);
    const V sigma = hn::Mul(hn::Sub(p, to_power(d, a)), inverse_rate);
    const V z = hn::Add(hn::LoadU(d, at.slot[1]), hn::NegMulAdd(sigma, w, g));
    hn::StoreU(z, d, at.slot[1]);
    const V w_next = hn::Div(hn::Sub(hn::CopySign(l1, z), z), hn::MulAdd(p, inverse_rate, two_l2));
    hn::StoreU(hn::IfThenElseZero(hn::Gt(hn::Abs(z), l1), w_next), d, at.w_next);
  });
}

void FtrlUpdate(const UpdateInput& in, const FtrlFactors& factors, float* accumulator,
                float* linear) {
  if (factors.power == 0.5f) {
    Ftrl(in, factors, accumulator, linear, [](D, V a) HWY_ATTR { return hn::Sqrt(a); });
  } else {
    Ftrl(in, factors, accumulator, linear,
         [&](D d, V a) HWY_ATTR { return Power(d, a, factors.power); });
  }
}

void EmaUpdate(const float* sum, const float* w_array, float* w_next, int64_t n, float mean_scale,
               float rate) {
  const D d0;
  const V scale = hn::Set(d0, mean_scale), r = hn::Set(d0, rate);
  Run({sum, w_array, w_next, {}}, n, [&](D d, const Cursor& at) HWY_ATTR {
    const V w = hn::LoadU(d, at.w);
    const V difference = hn::Sub(hn::Mul(scale, hn::LoadU(d, at.grad)), w);
    hn::StoreU(hn::MulAdd(r, difference, w), d, at.w_next);
  });
}

}  // namespace muster::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {

HWY_EXPORT(CopyInto);
HWY_EXPORT(AddInto);
HWY_EXPORT(SumOfSquares);
HWY_EXPORT(SgdUpdate);
HWY_EXPORT(MomentumUpdate);
HWY_EXPORT(NesterovUpdate);
HWY_EXPORT(AdagradUpdate);
HWY_EXPORT(RmspropUpdate);
HWY_EXPORT(AdamUpdate);
HWY_EXPORT(LambDirection);
HWY_EXPORT(FtrlUpdate);
HWY_EXPORT(EmaUpdate);

bool CopyInto(float* dst, const void* src, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(CopyInto)(dst, src, n);
}
bool AddInto(float* dst, const void* src, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(AddInto)(dst, src, n);
}
double SumOfSquares(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumOfSquares)(x, n); }
void SgdUpdate(const UpdateInput& in) { HWY_DYNAMIC_DISPATCH(SgdUpdate)(in); }
void MomentumUpdate(const UpdateInput& in, float mu, float* momentum) {
  HWY_DYNAMIC_DISPATCH(MomentumUpdate)(in, mu, momentum);
}
void NesterovUpdate(const UpdateInput& in, float mu, float* momentum) {
  HWY_DYNAMIC_DISPATCH(NesterovUpdate)(in, mu, momentum);
}
void AdagradUpdate(const UpdateInput& in, float epsilon, float* accumulator) {
  HWY_DYNAMIC_DISPATCH(AdagradUpdate)(in, epsilon, accumulator);
}
void RmspropUpdate(const UpdateInput& in, const RmspropFactors& factors, float* square,
                   float* velocity, float* mean) {
  HWY_DYNAMIC_DISPATCH(RmspropUpdate)(in, factors, square, velocity, mean);
}
void AdamUpdate(const UpdateInput& in, const AdamFactors& factors, float* m, float* v) {
  HWY_DYNAMIC_DISPATCH(AdamUpdate)(in, factors, m, v);
}
void LambDirection(const UpdateInput& in, const AdamFactors& factors, float* m, float* v) {
  HWY_DYNAMIC_DISPATCH(LambDirection)(in, factors, m, v);
}
void FtrlUpdate(const UpdateInput& in, const FtrlFactors& factors, float* accumulator,
                float* linear) {
  HWY_DYNAMIC_DISPATCH(FtrlUpdate)(in, factors, accumulator, linear);
}
void EmaUpdate(const float* sum, const float* w, float* w_next, int64_t n, float mean_scale,
               float rate) {
  HWY_DYNAMIC_DISPATCH(EmaUpdate)(sum, w, w_next, n, mean_scale, rate);
}

}  // namespace muster
#endif  // HWY_ONCE
